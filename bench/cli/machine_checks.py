"""Checks of this machine for the verb `doctor`: what disturbs timed runs, and what is missing."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pynvml

from bench.environment.circumstances import current_commit
from bench.environment.cores import CGROUP_QUOTA, count_available_cores
from bench.environment.gpu_settings import format_gpu_settings, read_gpu_settings
from bench.environment.gpus import count_gpus
from bench.environment.requirements import locate_compiler_requirements, locate_gpu_requirements
from bench.orchestration.preflight import has_gpu
from bench.profilers.nvml import SLOWDOWNS, throttle_reason_bits
from bench.tables.formats import GIB, pluralize
from bench.tables.tables import Table

OBSERVED_SECONDS = 2.0
BUSY_PERCENT = 5.0  # of all cores that other processes may use
MIN_FREE_BYTES = 2 * GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    found: str
    advice: str = ""  # empty: all is well


def finding_table(findings: Iterable[Finding]) -> Table:
    rows = [
        {"check": finding.check, "found": finding.found, "advice": finding.advice or "ok"}
        for finding in findings
    ]
    return Table.from_dicts("This machine", rows)


def check_machine(results: Path) -> Iterator[Finding]:
    """Yield the findings of all checks."""
    yield from check_host()
    yield from check_gpus()
    yield from check_tools(results)


def check_host() -> Iterator[Finding]:
    """Check cores, other processes and memory; this watches the machine for two seconds."""
    cores = f"{count_available_cores()} usable of {psutil.cpu_count(logical=True)} logical"
    has_quota = CGROUP_QUOTA.is_file() and not CGROUP_QUOTA.read_text().startswith("max")
    advice = "a container's quota pauses all threads: bind whole cores instead" if has_quota else ""
    yield Finding("cores", cores, advice)
    load = 100 - psutil.cpu_times_percent(OBSERVED_SECONDS).idle
    advice = "end them, or wait (`top` shows them)" if load > BUSY_PERCENT else ""
    yield Finding("other processes", f"{load:.0f} % of all cores", advice)
    memory = psutil.virtual_memory()
    free = f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f} GiB"
    is_small = memory.available < MIN_FREE_BYTES
    yield Finding("memory", free, "end processes that hold memory" if is_small else "")


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
        yield Finding(f"GPU {index}: processes", running, "end them, or wait" if is_busy else "")
        slowed = _query_nvml(
            lambda gpu: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) & reasons, handle
        )
        advice = "" if slowed == "0" else "see `nvidia-smi -q -d PERFORMANCE`"
        yield Finding(f"GPU {index}: slowdown reasons", slowed, advice)
    if handles:
        num_usable = count_gpus()
        advice = "" if num_usable else "install a PyTorch build for this GPU and driver"
        yield Finding("CUDA", f"torch can use {pluralize(num_usable, 'GPU')}", advice)


def check_tools(results: Path) -> Iterator[Finding]:
    """Check what torch.compile and loader workers need, the disk and the state of the checkout."""
    for tool in [
        *locate_compiler_requirements(),
        *(locate_gpu_requirements() if has_gpu() else ()),
    ]:
        yield Finding(tool.name, tool.path or "none", "" if tool.path else tool.remedy)
    folder = results.resolve()
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    advice = "free disk space" if free_bytes < MIN_FREE_BYTES else ""
    yield Finding("disk", f"{free_bytes / GIB:.0f} GiB free at {folder}", advice)
    commit = current_commit()
    is_dirty = commit.endswith("-dirty")
    advice = "records of a changed checkout cannot be reproduced" if is_dirty else ""
    yield Finding("commit", commit, advice)


def _query_nvml(query: Callable[[Any], Any], handle: Any) -> str:
    """Return NVML's answer or its error message."""
    try:
        return str(query(handle))
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
        return str(error)
