"""The verb `doctor`: disturbances and missing tools of this machine, or faults of tar shards."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar

import psutil
import pynvml
from tyro.conf import arg

from bench.cli.findings import DISTURBS, FINDING_OK, MISSING, UNKNOWN, Finding, finding_table, make_finding
from bench.cli.loading_check import check_loading, chosen_gpu_spec, predict_gpu_rate
from bench.cli.options import OPTION_NAMES, Caption, Json, Results, Settings, experiment_from, print_results
from bench.cli.rank_checks import check_ranks
from bench.cli.shard_check import ShardCheck, verify_shards
from bench.console.console import DISAGREEMENT, OK, log
from bench.console.options import require_range
from bench.console.tables import print_tables
from bench.data.manifest import CACHE
from bench.data.samples import get_source, open_samples
from bench.data.sources.tar_shards import TarShards
from bench.environment.circumstances import current_commit, summarize_machine
from bench.environment.cores import CGROUP_QUOTA, available_cores
from bench.environment.gpu_settings import format_gpu_settings, read_gpu_settings
from bench.environment.rank_info import torchrun_env
from bench.environment.requirements import MIN_SHARED_BYTES, SHARED_MEMORY, compiler_requirements, gpu_requirements
from bench.experiment.experiments import COMPARED, EXPERIMENTS
from bench.measure.throughput import images_per_second
from bench.measure.windows import timed_windows
from bench.orchestration.pace import Pace
from bench.orchestration.preflight import has_gpu
from bench.orchestration.scope import scopes
from bench.orchestration.trial import DEFAULT_MINUTES, expected_trial_seconds, plan_default, run_trial
from bench.profilers.nvml import SLOWDOWNS, throttle_bits
from bench.records.record import Record, Speed
from bench.tables.formats import GIB
from bench.tables.tables import Table
from bench.train.shared_memory import SHARED_MEMORY_REMEDY

TRIED = "clip-tiny"  # experiment that shows how fast the machine is

OBSERVED_SECONDS = 2.0
CHECK_SECONDS = OBSERVED_SECONDS + 10.0  # of all checks before the trial; on a GPU a process starts CUDA
MAX_SLOW_WINDOWS = 0.2  # share of the windows of a trial that other work slowed
BUSY_PERCENT = 5.0  # largest CPU use of other processes, of all cores
MIN_FREE_GIB = 2.0
CPU = Path("/sys/devices/system/cpu")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # like "always [madvise] never"


@dataclass(frozen=True, slots=True)
class Doctor:
    """Check this machine for disturbances and missing tools, and estimate the duration of the default comparison.

    Under torchrun, measure the links within and between the nodes of the job instead, and check that all ranks have
    equal software and the same results folder.

    With --shards, verify tar shards against the manifest of their folder instead. Then load them for a few seconds, and
    predict how many cores feed the GPUs in a training of an experiment. Where a training accepts the shards, a missing
    manifest is written. Data of another source has no manifest, and is only loaded.
    """

    shards: Annotated[
        str | None, arg(metavar="GLOB", help="folder, file or glob of tar shards to verify against their manifest")
    ] = None
    caption: Caption = None
    experiment: str | None = None  # name of the experiment that the shards feed; default clip-vit-b16
    device: Annotated[str | None, arg(help="name of its GPU; default: this machine's, by its data sheet")] = None
    images_per_s: float | None = None  # images/s that one GPU takes; default: what `plan` predicts for it
    loading_seconds: float = 10.0  # seconds of loading; 0: the shards are only verified
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "check"
    runs_on_all_ranks: ClassVar[bool] = True
    accepts_unequal_ranks: ClassVar[bool] = True  # it tells in what they differ
    resume_hint = "there is nothing to resume"

    def run(self) -> int:
        """Check the machine, time one short run, and print the findings: each as it is found, then all in a table."""
        is_distributed = torchrun_env().world_size > 1
        if self.shards is not None:
            if is_distributed:
                raise ValueError("--shards is verified by one process: start it without torchrun")
            return self._check_shards(self.shards)
        for option in ("caption", "experiment", "device", "images_per_s", "settings"):
            if getattr(self, option) not in (None, ()):
                name = OPTION_NAMES.get(option, option.replace("_", "-"))
                raise ValueError(f"--{name} is for --shards: add it, or leave out --{name}")
        if is_distributed:
            return check_ranks(self.results.resolve(), self.json)
        checks = check_host(), check_cpu_clocks(), check_gpus(), check_compiler_disk_commit(self.results)
        findings = [*map(_log_finding, chain(*checks))]
        with tempfile.TemporaryDirectory() as folder:
            trial, pace = run_trial(Path(folder), EXPERIMENTS[TRIED], self.results)
            findings += map(_log_finding, trial_run_checks(trial.records(), pace))
            return print_results(trial, [finding_table("This machine", findings)], self.json)

    def expected_seconds(self, pace: Pace) -> float:
        """Return the expected seconds of the checks, and of the trial or of the loading of shards."""
        if self.shards is not None:
            return pace.command_seconds + pace.process_start_seconds + self.loading_seconds
        return pace.command_seconds + CHECK_SECONDS + expected_trial_seconds(pace, EXPERIMENTS[TRIED])

    def _check_shards(self, shards: str) -> int:
        """Verify the shards; unless one is faulty, predict the cores that load them fast enough.

        A manifest is written into the shards' folder only where a training accepts the shards: else it would certify
        what has to be written again.
        """
        require_range("loading-seconds", self.loading_seconds, 0, 1e6)
        require_range("images-per-s", self.images_per_s, 1e-3, 1e9)
        if self.device is not None and self.images_per_s is not None:
            raise ValueError("--device and --images-per-s both give the images/s of a GPU: leave out one of them")
        experiment = experiment_from(self.experiment or "clip-vit-b16", self.settings, shards, caption=self.caption)
        gpu = chosen_gpu_spec(self.device) if self.images_per_s is None else None
        is_tar, loading = isinstance(get_source(shards), TarShards), list[Table]()
        check = verify_shards(shards) if is_tar else ShardCheck({}, set(), {})
        if check.faults:
            print_tables(check.tables(), self.json)
            return DISAGREEMENT
        is_opened = bool(self.loading_seconds or check.unlisted or not is_tar)
        opened = open_samples(experiment, self.results / CACHE) if is_opened else None
        if self.loading_seconds:
            rate = predict_gpu_rate(experiment, gpu, self.images_per_s, self.results)
            loading.append(check_loading(experiment, rate, self.results, self.loading_seconds))
        check.write_missing_manifests()
        for note in () if opened is None else opened.notes():
            log(f"{shards}: {note}")
        print_tables([*check.tables(), *loading], self.json)
        return OK


def check_host() -> Iterator[Finding]:
    """Check cores, quota, other processes, memory, swap, huge pages and battery; watch the machine for two seconds."""
    memory, bound = psutil.virtual_memory(), available_cores()
    yield Finding("cores", f"{bound} usable of {psutil.cpu_count(logical=True)} logical")
    if CGROUP_QUOTA.is_file() and not CGROUP_QUOTA.read_text().startswith("max"):
        quota = f"container quota of {' / '.join(CGROUP_QUOTA.read_text().split())} microseconds"
        yield Finding("quota", quota, DISTURBS, "a quota pauses all threads periodically; bind whole cores instead")
    swap_before, seconds_before = psutil.swap_memory(), _cpu_seconds_by_process()
    busy, seconds_after = psutil.cpu_times_percent(OBSERVED_SECONDS), _cpu_seconds_by_process()
    common = seconds_before.keys() & seconds_after.keys()
    used = sorted(((seconds_after[one] - seconds_before[one], one[1]) for one in common), reverse=True)
    busiest = ", ".join(f"{name} {spent / OBSERVED_SECONDS:.0%} of a core" for spent, name in used[:3] if spent > 0)
    load = f"{100 - busy.idle:.0f} % of all cores" + (f" ({busiest})" if busiest else "")
    yield make_finding("other processes", load, "end them, or wait", is_bad=100 - busy.idle > BUSY_PERCENT)
    if (stolen := getattr(busy, "steal", 0.0)) > 1:
        advice = "another virtual machine is busy: wait"
        yield Finding("host", f"takes {stolen:.0f} % of the cores' time", DISTURBS, advice)
    free = f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f} GiB"
    yield make_finding("memory", free, "end processes that hold memory", is_bad=memory.available < MIN_FREE_GIB * GIB)
    paging = psutil.swap_memory().sin - swap_before.sin
    swap = f"{swap_before.used / GIB:.1f} GiB used, {paging} bytes read in {OBSERVED_SECONDS:g} s"
    yield make_finding("swap", swap, "free memory, then run `swapoff -a`", is_bad=bool(paging))
    if SHARED_MEMORY.is_dir():
        free_bytes = shutil.disk_usage(SHARED_MEMORY).free
        found, is_small = f"{free_bytes / GIB:.2f} GiB free at {SHARED_MEMORY}", free_bytes < MIN_SHARED_BYTES
        yield make_finding("shared memory", found, SHARED_MEMORY_REMEDY, is_bad=has_gpu() and is_small)
    if HUGE_PAGES.is_file():
        mode = HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]
        advice = f"run-to-run spread is four times as large without: `echo madvise > {HUGE_PAGES}`"
        yield make_finding("huge pages", mode, advice, is_bad=mode == "never")
    battery = getattr(psutil, "sensors_battery", lambda: None)()
    if battery is not None and not battery.power_plugged:
        yield Finding("power", f"on battery, {battery.percent:.0f} %", DISTURBS, "connect the power supply")


def check_cpu_clocks() -> Iterator[Finding]:
    """Check the frequency governor and thermal throttling, which most virtual machines do not show."""
    governors = {path.read_text().strip() for path in CPU.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if governors:
        advice = "`cpupower frequency-set -g performance`"
        yield make_finding("governor", ", ".join(sorted(governors)), advice, is_bad=governors != {"performance"})
    else:
        yield Finding("governor", "the kernel shows no clocks (a virtual machine?)", UNKNOWN)
    counts = [int(path.read_text()) for path in CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    if counts:
        throttled = f"throttled {sum(counts)} times since boot"
        yield make_finding(
            "temperature", throttled, "cool it, and check whether the count grows", is_bad=sum(counts) > 0
        )


def check_gpus() -> Iterator[Finding]:
    """Check every GPU through NVML, and whether PyTorch can use one."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        yield Finding("NVML", str(error), MISSING, "runs use the CPU; no GPU is read")
        return
    reasons = throttle_bits(chain.from_iterable(SLOWDOWNS.values()))
    for index, handle in enumerate(handles):
        name = _query_nvml(pynvml.nvmlDeviceGetName, handle)
        yield Finding(f"GPU {index}", f"{name}, {format_gpu_settings(read_gpu_settings(handle))}")
        running = _query_nvml(lambda of: len(pynvml.nvmlDeviceGetComputeRunningProcesses(of)), handle)
        is_busy = running.isdecimal() and running != "0"
        yield make_finding(f"GPU {index}: processes", running, "end them, or wait", is_bad=is_busy)
        slowed = _query_nvml(lambda of: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(of) & reasons, handle)
        advice = "see `nvidia-smi -q -d PERFORMANCE`"
        yield make_finding(f"GPU {index}: slowdown reasons", slowed, advice, is_bad=slowed not in {"0", ""})
        yield Finding(f"GPU {index}: persistence mode", _query_nvml(pynvml.nvmlDeviceGetPersistenceMode, handle))
    if handles:
        yield check_cuda()


def check_cuda() -> Finding:
    """Start CUDA and compute in a process of its own, which a broken driver may end."""
    command = [sys.executable, "-c", "import torch; torch.ones(1, device='cuda').item()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Finding("CUDA", "initialises, and a kernel runs")
    reason = (done.stderr.strip().splitlines() or [f"its process ended with exit code {done.returncode}"])[-1]
    return Finding("CUDA", reason, MISSING, "runs use the CPU: install a PyTorch build for this GPU and driver")


def check_compiler_disk_commit(results: Path) -> Iterator[Finding]:
    """Check what torch.compile and loader workers need, the disk and the state of the checkout."""
    for need in (*compiler_requirements(), *(gpu_requirements() if has_gpu() else ())):
        yield Finding(need.what, need.found) if need.found else Finding(need.what, "none", MISSING, need.remedy)
    folder = next(path for path in (results.resolve(), *results.resolve().parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIB
    yield make_finding("disk", f"{free:.0f} GiB free at {folder}", "free disk space", is_bad=free < MIN_FREE_GIB)
    advice = "records of a changed checkout cannot be reproduced" if current_commit().endswith("-dirty") else ""
    yield Finding("commit", current_commit(), FINDING_OK, advice)


def trial_run_checks(records: list[Record], pace: Pace) -> Iterator[Finding]:
    """Report the fastest run of clip-tiny, and what of the default comparison fits into its time at this pace."""
    runs = [(one.experiment, one.measured, one.circumstances) for one in records if isinstance(one.measured, Speed)]
    rates = [images_per_second(experiment, speed) for experiment, speed, _ in runs if experiment is not None]
    if rates:
        one, speed, where = runs[rates.index(max(rates))]
        assert one is not None
        yield Finding("device", f"{summarize_machine(where)}; {where.precision}")
        share = 1 - float(timed_windows(one, speed).is_counted().mean())
        found = f"{max(rates):,.0f} images/s, the fastest of {len(rates)}; {share:.0%} of its steps waited for a core"
        yield make_finding(
            "trial of clip-tiny", found, "end other work, or measure longer", is_bad=share > MAX_SLOW_WINDOWS
        )
        experiments = [EXPERIMENTS[f"{name}-tiny"] for name in COMPARED]
        scope = scopes(on_gpu=has_gpu())["default"]
        yield Finding("default comparison", str(plan_default(experiments, scope, pace, DEFAULT_MINUTES)))


def _log_finding(finding: Finding) -> Finding:
    """Log a finding at once, so that it is known whatever happens to the checks after it."""
    log(f"{finding.check}: {finding.found}" + (f" ({finding.verdict})" if finding.verdict != FINDING_OK else ""))
    return finding


def _cpu_seconds_by_process() -> dict[tuple[int, str], float]:
    """Return the CPU seconds of other processes by id and name."""
    seconds = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        if process.pid != os.getpid() and (times := process.info["cpu_times"]):
            seconds[process.pid, process.info["name"] or "?"] = times.user + times.system
    return seconds


def _query_nvml(query: Callable[..., Any], *arguments: Any) -> str:
    """Return NVML's answer or its error message."""
    try:
        return str(query(*arguments))
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
        return str(error)
