"""Checks of this machine for the verb `doctor`: what disturbs timed runs, and what is missing."""

import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pynvml

from bench.environment.cores import CGROUP_QUOTA, count_available_cores
from bench.environment.gpu_settings import format_gpu_settings, read_gpu_settings
from bench.environment.gpus import count_gpus
from bench.environment.requirements import locate_compiler_requirements, locate_gpu_requirements
from bench.orchestration.preflight import has_gpu
from bench.profilers.nvml import SLOWDOWNS, throttle_reason_bits
from bench.tables.formats import GIB, pluralize
from bench.tables.tables import Table

OBSERVED_SECONDS = 2.0
BUSY_SHARE = 0.05  # of all cores that other processes may use
MIN_FREE_BYTES = 2 * GIB


class Finding(NamedTuple):
    """The result of one check, as a row of the table."""

    check: str
    found: str
    advice: str = "ok"


def count_busy_cores(seconds: float) -> float:
    """Sleep for some seconds, and return the mean number of cores that processes kept busy meanwhile."""
    busy_percent = 100 - psutil.cpu_times_percent(seconds).idle
    return float(busy_percent / 100 * (psutil.cpu_count() or 1))


def check_machine(results: Path) -> Table:
    """Run all checks of this machine for two seconds, and return the table of their findings."""
    findings = [*check_host(), *check_gpus(), *check_tools(results)]
    return Table.from_dicts("This machine", [finding._asdict() for finding in findings])


def check_host() -> Iterator[Finding]:
    """Check cores, other processes and memory; this watches the machine for two seconds."""
    cores = psutil.cpu_count() or 1
    has_quota = CGROUP_QUOTA.is_file() and not CGROUP_QUOTA.read_text().startswith("max")
    advice = "a container's quota pauses all threads: bind whole cores instead"
    usable = f"{count_available_cores()} usable of {cores} logical"
    yield Finding("cores", usable, advice if has_quota else "ok")
    load = count_busy_cores(OBSERVED_SECONDS) / cores
    advice = "end them, or wait (`top` shows them)"
    yield Finding(
        "other processes", f"{100 * load:.0f} % of all cores", advice if load > BUSY_SHARE else "ok"
    )
    memory = psutil.virtual_memory()
    free = f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f} GiB"
    is_small = memory.available < MIN_FREE_BYTES
    yield Finding("memory", free, "end processes that hold memory" if is_small else "ok")


def check_gpus() -> Iterator[Finding]:
    """Check every GPU through NVML, and whether PyTorch can use one."""
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError as error:
        yield Finding("NVML", str(error), "runs use the CPU; no GPU is read")
        return
    reasons = throttle_reason_bits(chain.from_iterable(SLOWDOWNS.values()))
    for index, handle in enumerate(handles):
        name = _query_nvml(pynvml.nvmlDeviceGetName, handle)
        yield Finding(f"GPU {index}", f"{name}, {format_gpu_settings(read_gpu_settings(handle))}")
        running = _query_nvml(
            lambda gpu: len(pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)), handle
        )
        is_busy = running.isdecimal() and running != "0"
        yield Finding(f"GPU {index}: processes", running, "end them, or wait" if is_busy else "ok")
        slowed = _query_nvml(
            lambda gpu: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) & reasons, handle
        )
        advice = "ok" if slowed == "0" else "see `nvidia-smi -q -d PERFORMANCE`"
        yield Finding(f"GPU {index}: slowdown reasons", slowed, advice)
    if handles:
        num_usable = count_gpus()
        advice = "ok" if num_usable else "install a PyTorch build for this GPU and driver"
        yield Finding("CUDA", f"torch can use {pluralize(num_usable, 'GPU')}", advice)


def check_tools(results: Path) -> Iterator[Finding]:
    """Check what torch.compile and loader workers need, and the disk."""
    for tool in [
        *locate_compiler_requirements(),
        *(locate_gpu_requirements() if has_gpu() else ()),
    ]:
        yield Finding(tool.name, tool.path or "none", "ok" if tool.path else tool.remedy)
    folder = results.resolve()
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    advice = "free disk space" if free_bytes < MIN_FREE_BYTES else "ok"
    yield Finding("disk", f"{free_bytes / GIB:.0f} GiB free at {folder}", advice)


def _query_nvml(query: Callable[[Any], Any], handle: Any) -> str:
    """Return the result of a query of a GPU as text, or NVML's error message."""
    try:
        return str(query(handle))
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
        return str(error)
