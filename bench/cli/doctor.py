"""What this machine is, what would disturb a measurement on it, what is missing, and how long a bench takes."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import psutil
import pynvml
from tyro.conf import arg

from bench.cli.options import Json, Results
from bench.cli.shard_check import check_shards
from bench.console.exit_codes import FAILED_CASE, OK
from bench.console.progress import Progress
from bench.console.tables import Table, show
from bench.environment.commit import commit
from bench.experiments import COMPARED, EXPERIMENTS
from bench.measure.tables import failure_table
from bench.measure.throughput import images_per_second
from bench.orchestration.comparison import Comparison, Scope, scopes
from bench.orchestration.duration_estimates import speed_seconds
from bench.orchestration.preflight import CGROUP_QUOTA, begin, cores, has_gpu
from bench.orchestration.runner import Runner
from bench.record import Record, Speed

WATCHED_SECONDS = 2.0
UNSTEADY = 0.1  # by how much a window may be slower than the median
BUSY_PERCENT = 5.0  # of the machine, used by others: more disturbs
LEAST_FREE_GIB = 2.0
GIB = 2**30
CPU = Path("/sys/devices/system/cpu")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # like "always [madvise] never"
SLOWED = (
    pynvml.nvmlClocksThrottleReasonSwPowerCap
    | pynvml.nvmlClocksThrottleReasonHwSlowdown
    | pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
    | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    | pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
)
FINE, DISTURBS, MISSING, UNKNOWN = "ok", "disturbs", "missing", "not known"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    verdict: str = FINE
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Doctor:
    """Say what this machine is, what would disturb a measurement, what is missing, how long the default bench takes.

    With --shards, say instead whether tar shards are what their manifest says; where there is none, write it.
    """

    shards: Annotated[str | None, arg(metavar="GLOB", help="tar shards: a folder, a file or a glob")] = None
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "nothing was lost"

    def run(self) -> int:
        """Look, time one short run, and tell."""
        if self.shards is not None:
            return check_shards(self.shards, self.json)
        findings = [*host(), *cpu_clocks(), *gpus(), *tools(self.results)]
        with tempfile.TemporaryDirectory() as folder:
            experiment = EXPERIMENTS["clip-tiny"]
            trial = begin(Path(folder), [experiment], Scope("trial", 1), trained=False)
            start = time.perf_counter()
            trial.measure(1)
            seconds, records = time.perf_counter() - start, trial.records()
        findings += trial_run(records, seconds / speed_seconds(experiment))
        rows = [{"what": one.what, "": one.verdict, "found": one.found, "what to do": one.advice} for one in findings]
        show([Table("This machine", rows), failure_table(records)], self.json)
        return FAILED_CASE if trial.runner.failures else OK


def host() -> Iterator[Finding]:
    """Look at cores, memory, swap and the neighbours, for two seconds."""
    memory, bound = psutil.virtual_memory(), cores()
    yield Finding("cores", f"{bound} usable of {psutil.cpu_count(logical=True)} logical")
    if CGROUP_QUOTA.is_file() and not CGROUP_QUOTA.read_text().startswith("max"):
        quota = f"a container's quota of {' / '.join(CGROUP_QUOTA.read_text().split())} microseconds"
        yield Finding("quota", quota, DISTURBS, "a quota stops all threads in turns; bind whole cores instead")
    swapped, before = psutil.swap_memory(), {process: _cpu_seconds(process) for process in psutil.process_iter()}
    busy = psutil.cpu_times_percent(WATCHED_SECONDS)
    used = [(_cpu_seconds(process) - then, process) for process, then in before.items()]
    others = sorted(((spent, _name(process)) for spent, process in used if process.pid != os.getpid()), reverse=True)
    told = ", ".join(f"{name} {spent / WATCHED_SECONDS:.0%} of a core" for spent, name in others[:3] if spent > 0)
    is_busy = 100 - busy.idle > BUSY_PERCENT
    yield Finding(
        "other processes",
        f"{100 - busy.idle:.0f} % of all cores" + (f" ({told})" if told else ""),
        DISTURBS if is_busy else FINE,
        "end them, or wait" if is_busy else "",
    )
    if (stolen := getattr(busy, "steal", 0.0)) > 1:
        yield Finding("host", f"takes {stolen:.0f} % of the cores' time", DISTURBS, "another guest is busy: wait")
    paging = psutil.swap_memory().sin - swapped.sin
    is_full = memory.available < LEAST_FREE_GIB * GIB
    yield Finding(
        "memory",
        f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f}",
        DISTURBS if is_full else FINE,
        "close what holds it" if is_full else "",
    )
    yield Finding(
        "swap",
        f"{swapped.used / GIB:.1f} GiB used, {paging} bytes read in {WATCHED_SECONDS:g} s",
        DISTURBS if paging else FINE,
        "free memory first: `swapoff -a`" if paging else "",
    )
    if HUGE_PAGES.is_file():
        mode = HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]
        has_none = mode == "never"
        advice = f"runs spread four times as wide without: `echo madvise > {HUGE_PAGES}`" if has_none else ""
        yield Finding("huge pages", mode, DISTURBS if has_none else FINE, advice)
    battery = getattr(psutil, "sensors_battery", lambda: None)()
    if battery is not None and not battery.power_plugged:
        yield Finding("power", f"on battery, {battery.percent:.0f} %", DISTURBS, "plug it in")


def cpu_clocks() -> Iterator[Finding]:
    """Look at governor, boost and throttling, where the kernel shows them (not in most virtual machines)."""
    governors = {path.read_text().strip() for path in CPU.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    if governors:
        is_steady = governors == {"performance"}
        advice = "" if is_steady else "`cpupower frequency-set -g performance`"
        yield Finding("governor", ", ".join(sorted(governors)), FINE if is_steady else DISTURBS, advice)
    else:
        yield Finding("governor", "the kernel shows no clocks (a virtual machine?)", UNKNOWN)
    counts = [int(path.read_text()) for path in CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    if counts:
        hot = sum(counts)
        yield Finding(
            "heat",
            f"slowed down {hot} times since the start",
            DISTURBS if hot else FINE,
            "cool it, and watch whether the count grows" if hot else "",
        )


def gpus() -> Iterator[Finding]:
    """Look at what NVML tells of every GPU."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        yield Finding("NVML", str(error), MISSING, "runs are on the CPU; no GPU is read")
        return
    for index, handle in enumerate(handles):
        name, driver = _told(pynvml.nvmlDeviceGetName, handle), _told(pynvml.nvmlSystemGetDriverVersion)
        yield Finding(f"GPU {index}", f"{name}, driver {driver}")
        running = _told(lambda of: len(pynvml.nvmlDeviceGetComputeRunningProcesses(of)), handle)
        busy = running.isdecimal() and running != "0"
        yield Finding(
            f"GPU {index}: processes", running, DISTURBS if busy else FINE, "end them, or wait" if busy else ""
        )
        slowed = _told(lambda of: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(of) & SLOWED, handle)
        is_slow = slowed not in {"0", ""}
        advice = "see `nvidia-smi -q -d PERFORMANCE`" if is_slow else ""
        yield Finding(f"GPU {index}: slowdown reasons", slowed, DISTURBS if is_slow else FINE, advice)
        yield Finding(f"GPU {index}: persistence mode", _told(pynvml.nvmlDeviceGetPersistenceMode, handle))


def tools(results: Path) -> Iterator[Finding]:
    """Look at what a bench needs beside the machine."""
    compiler = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    yield Finding(
        "C++ compiler",
        compiler or "none",
        FINE if compiler else MISSING,
        "" if compiler else "torch.compile needs one (`--set compile=on`)",
    )
    folder = next(path for path in (results.resolve(), *results.resolve().parents) if path.exists())
    free = shutil.disk_usage(folder).free / GIB
    is_full = free < LEAST_FREE_GIB
    yield Finding(
        "disk", f"{free:.0f} GiB free at {folder}", DISTURBS if is_full else FINE, "make room" if is_full else ""
    )
    is_dirty = commit().endswith("-dirty")
    yield Finding("commit", commit(), FINE, "records of a changed checkout cannot be made again" if is_dirty else "")


def trial_run(records: list[Record], pace: float) -> Iterator[Finding]:
    """Tell what one run of clip-tiny was like, and how long the benches take at its pace."""
    for record in records:
        if not isinstance(record.measured, Speed) or record.experiment is None:
            continue
        speed, where = record.measured, record.circumstances
        yield Finding("device", f"{where.machine}; torch {where.packages['torch']}, {where.precision}")
        windows = speed.window_seconds
        apart = max(windows) / median(windows) - 1
        yield Finding(
            "trial of clip-tiny",
            f"{images_per_second(record.experiment, speed):,.0f} images/s, slowest window {apart:.0%} over the median",
            DISTURBS if apart > UNSTEADY else FINE,
        )
        experiments = [EXPERIMENTS[f"{name}-tiny"] for name in COMPARED]
        scope = scopes(len(experiments), on_gpu=has_gpu())["default"]
        planned = Comparison("doctor", Path(), experiments, cores(), has_gpu(), Runner(Progress(0.0)))
        minutes = pace * planned.expected_seconds(scope) / 60
        yield Finding("the default bench takes", f"about {minutes:.0f} minutes")


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "?"


def _told(read: Callable[..., Any], *of: Any) -> str:
    """Return what NVML says, or why it does not."""
    try:
        return str(read(*of))
    except pynvml.NVMLError as error:
        return str(error)
