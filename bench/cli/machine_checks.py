"""Checks of this machine for the verb `doctor`: what disturbs timed runs, and what is missing."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pynvml

from bench.environment.circumstances import current_commit
from bench.environment.cores import CGROUP_QUOTA, available_cores
from bench.environment.gpu_settings import format_gpu_settings, read_gpu_settings
from bench.environment.requirements import (
    MIN_SHARED_BYTES,
    SHARED_MEMORY,
    compiler_requirements,
    gpu_requirements,
)
from bench.orchestration.preflight import has_gpu
from bench.profilers.nvml import SLOWDOWNS, throttle_bits
from bench.tables.formats import GIB
from bench.tables.tables import Table
from bench.train.shared_memory import SHARED_MEMORY_REMEDY

FINDING_OK, DISTURBS, MISSING, UNKNOWN = "ok", "disturbs", "missing", "not known"
OBSERVED_SECONDS = 2.0
BUSY_PERCENT = 5.0  # of all cores that other processes may use
MIN_FREE_GIB = 2.0
CPU = Path("/sys/devices/system/cpu")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")  # like "always [madvise] never"
START_CUDA = "import torch; torch.ones(1, device='cuda').item()"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    found: str
    verdict: str = FINDING_OK
    advice: str = ""


def judge(check: str, found: str, advice: str, *, is_bad: bool, verdict: str = DISTURBS) -> Finding:
    """Return a finding that is ok, or has this verdict and advice."""
    return Finding(check, found, verdict, advice) if is_bad else Finding(check, found)


def finding_table(title: str, findings: Iterable[Finding]) -> Table:
    columns = ("check", "verdict", "found", "advice")
    rows = [{column: getattr(finding, column) for column in columns} for finding in findings]
    return Table.of_figures(title, rows)


def check_machine(results: Path) -> Iterator[Finding]:
    """Yield the findings of all checks as they are made."""
    yield from check_host()
    yield from check_cpu_clocks()
    yield from check_gpus()
    yield from check_compiler_disk_commit(results)


def check_host() -> Iterator[Finding]:
    """Check cores, quota, other processes, memory, swap and huge pages; this watches the machine for two seconds."""
    yield Finding(
        "cores", f"{available_cores()} usable of {psutil.cpu_count(logical=True)} logical"
    )
    if CGROUP_QUOTA.is_file() and not CGROUP_QUOTA.read_text().startswith("max"):
        quota = f"container quota of {' / '.join(CGROUP_QUOTA.read_text().split())} microseconds"
        yield Finding(
            "quota",
            quota,
            DISTURBS,
            "a quota pauses all threads periodically; bind whole cores instead",
        )
    swapped_before = psutil.swap_memory().sin
    busy = psutil.cpu_times_percent(OBSERVED_SECONDS)
    load = 100 - busy.idle
    advice = "end them, or wait (`top` shows them)"
    yield judge("other processes", f"{load:.0f} % of all cores", advice, is_bad=load > BUSY_PERCENT)
    stolen = getattr(busy, "steal", 0.0)
    if stolen > 1:
        advice = "another virtual machine is busy: wait"
        yield Finding("host", f"takes {stolen:.0f} % of the cores' time", DISTURBS, advice)
    memory = psutil.virtual_memory()
    free = f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f} GiB"
    yield judge(
        "memory",
        free,
        "end processes that hold memory",
        is_bad=memory.available < MIN_FREE_GIB * GIB,
    )
    swap = psutil.swap_memory()
    paged = swap.sin - swapped_before
    used = f"{swap.used / GIB:.1f} GiB used, {paged} bytes read in {OBSERVED_SECONDS:g} s"
    yield judge("swap", used, "free memory, then run `swapoff -a`", is_bad=paged > 0)
    if SHARED_MEMORY.is_dir():
        free_bytes = shutil.disk_usage(SHARED_MEMORY).free
        free = f"{free_bytes / GIB:.2f} GiB free at {SHARED_MEMORY}"
        is_small = has_gpu() and free_bytes < MIN_SHARED_BYTES
        yield judge("shared memory", free, SHARED_MEMORY_REMEDY, is_bad=is_small)
    if HUGE_PAGES.is_file():
        mode = HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]
        advice = f"run-to-run spread is four times as large without: `echo madvise > {HUGE_PAGES}`"
        yield judge("huge pages", mode, advice, is_bad=mode == "never")


def check_cpu_clocks() -> Iterator[Finding]:
    """Check the frequency governor and thermal throttling, which most virtual machines do not show."""
    governors = {
        path.read_text().strip() for path in CPU.glob("cpu[0-9]*/cpufreq/scaling_governor")
    }
    if governors:
        advice = "`cpupower frequency-set -g performance`"
        yield judge(
            "governor", ", ".join(sorted(governors)), advice, is_bad=governors != {"performance"}
        )
    else:
        yield Finding("governor", "the kernel shows no clocks (a virtual machine?)", UNKNOWN)
    counts = [
        int(path.read_text()) for path in CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    ]
    if counts:
        throttled = f"throttled {sum(counts)} times since boot"
        yield judge(
            "temperature",
            throttled,
            "cool it, and check whether the count grows",
            is_bad=sum(counts) > 0,
        )


def check_gpus() -> Iterator[Finding]:
    """Check every GPU through NVML, and whether PyTorch can use one."""
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError as error:
        yield Finding("NVML", str(error), MISSING, "runs use the CPU; no GPU is read")
        return
    reasons = throttle_bits(chain.from_iterable(SLOWDOWNS.values()))
    for index, handle in enumerate(handles):
        name = _query_nvml(pynvml.nvmlDeviceGetName, handle)
        yield Finding(f"GPU {index}", f"{name}, {format_gpu_settings(read_gpu_settings(handle))}")
        running = _query_nvml(
            lambda gpu: len(pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)), handle
        )
        is_busy = running.isdecimal() and running != "0"
        yield judge(f"GPU {index}: processes", running, "end them, or wait", is_bad=is_busy)
        slowed = _query_nvml(
            lambda gpu: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) & reasons, handle
        )
        advice = "see `nvidia-smi -q -d PERFORMANCE`"
        yield judge(
            f"GPU {index}: slowdown reasons", slowed, advice, is_bad=slowed not in {"0", ""}
        )
        yield Finding(
            f"GPU {index}: persistence mode",
            _query_nvml(pynvml.nvmlDeviceGetPersistenceMode, handle),
        )
    if handles:
        yield check_cuda()


def check_cuda() -> Finding:
    """Start CUDA and compute in a process of its own, which a broken driver may end."""
    done = subprocess.run(
        [sys.executable, "-c", START_CUDA], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return Finding("CUDA", "initialises, and a kernel runs")
    lines = done.stderr.strip().splitlines()
    reason = lines[-1] if lines else f"its process ended with exit code {done.returncode}"
    return Finding(
        "CUDA", reason, MISSING, "runs use the CPU: install a PyTorch build for this GPU and driver"
    )


def check_compiler_disk_commit(results: Path) -> Iterator[Finding]:
    """Check what torch.compile and loader workers need, the disk and the state of the checkout."""
    requirements = [*compiler_requirements(), *(gpu_requirements() if has_gpu() else ())]
    for requirement in requirements:
        is_missing = not requirement.found
        found = requirement.found or "none"
        yield judge(requirement.what, found, requirement.remedy, is_bad=is_missing, verdict=MISSING)
    folder = results.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    yield judge(
        "disk", f"{free:.0f} GiB free at {folder}", "free disk space", is_bad=free < MIN_FREE_GIB
    )
    commit = current_commit()
    advice = (
        "records of a changed checkout cannot be reproduced" if commit.endswith("-dirty") else ""
    )
    yield Finding("commit", commit, FINDING_OK, advice)


def _query_nvml(query: Callable[..., Any], *arguments: Any) -> str:
    """Return NVML's answer or its error message."""
    try:
        return str(query(*arguments))
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
        return str(error)
