"""The verb `doctor`: what disturbs timed runs on this machine, and what is missing."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pynvml

from bench.cli.options import Json, Results
from bench.console.console import OK
from bench.console.tables import print_tables
from bench.environment.cores import CGROUP_QUOTA, count_available_cores
from bench.environment.gpu_settings import format_gpu_settings, read_gpu_settings
from bench.environment.gpus import count_usable_gpus
from bench.environment.requirements import check_driver_and_triton, locate_compiler_requirements
from bench.orchestration.preflight import has_gpu
from bench.tables.formats import GIB, format_count_with_noun
from bench.tables.tables import Table

OBSERVED_SECONDS = 2.0
MAX_BUSY_PERCENT = 5.0  # of all cores, that other processes may use
MIN_FREE_BYTES = 2 * GIB


@dataclass(frozen=True)
class CheckMachine:
    """Check this machine for disturbances and missing tools."""

    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Watch the machine for two seconds, and print the findings."""
        findings = [*check_host(), *check_gpus(), *check_tools(self.results)]
        rows = [finding._asdict() for finding in findings]
        print_tables([Table.from_dicts("This machine", rows)], self.json)
        return OK


class MachineFinding(NamedTuple):
    """The result of one check, as a row of the table."""

    check: str
    found: str
    advice: str = "ok"


def _make_finding(check: str, found: str, *, is_flaw: bool, advice: str) -> MachineFinding:
    """Return the finding of a check, whose advice is shown only for a flaw."""
    return MachineFinding(check, found, advice if is_flaw else "ok")


def check_host() -> Iterator[MachineFinding]:
    """Check cores, other processes and memory; this watches the machine for two seconds."""
    cores = psutil.cpu_count() or 1
    has_quota = CGROUP_QUOTA.is_file() and not CGROUP_QUOTA.read_text().startswith("max")
    usable = f"{count_available_cores()} usable of {cores} logical"
    advice = "a container's quota pauses all threads: bind whole cores instead"
    yield _make_finding("cores", usable, is_flaw=has_quota, advice=advice)
    busy_percent = 100 - psutil.cpu_times_percent(OBSERVED_SECONDS).idle
    load = f"{busy_percent:.0f} % of all cores"
    advice = "end them, or wait (`top` shows them)"
    is_busy = busy_percent > MAX_BUSY_PERCENT
    yield _make_finding("other processes", load, is_flaw=is_busy, advice=advice)
    memory = psutil.virtual_memory()
    free = f"{memory.available / GIB:.1f} GiB available of {memory.total / GIB:.1f} GiB"
    is_small = memory.available < MIN_FREE_BYTES
    yield _make_finding("memory", free, is_flaw=is_small, advice="end processes that hold memory")


def check_gpus() -> Iterator[MachineFinding]:
    """Check every GPU through NVML, and whether PyTorch can use one."""
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
    except pynvml.NVMLError as error:
        yield MachineFinding("NVML", str(error), "runs use the CPU; no GPU is read")
        return
    for index, handle in enumerate(handles):
        name = _query_nvml(pynvml.nvmlDeviceGetName, handle)
        yield MachineFinding(
            f"GPU {index}", f"{name}, {format_gpu_settings(read_gpu_settings(handle))}"
        )
        running = _query_nvml(
            lambda gpu: len(pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)), handle
        )
        is_busy = running.isdecimal() and running != "0"
        yield _make_finding(
            f"GPU {index}: processes", running, is_flaw=is_busy, advice="end them, or wait"
        )
    if handles:
        num_usable = count_usable_gpus()
        usable = f"torch can use {format_count_with_noun(num_usable, 'GPU')}"
        advice = "install a PyTorch build for this GPU and driver"
        yield _make_finding("CUDA", usable, is_flaw=not num_usable, advice=advice)


def check_tools(results: Path) -> Iterator[MachineFinding]:
    """Check what torch.compile and loader workers need, and the disk."""
    tools = [*locate_compiler_requirements()]
    if has_gpu():
        tools += check_driver_and_triton()
    for tool in tools:
        yield _make_finding(
            tool.name, tool.location or "none", is_flaw=not tool.location, advice=tool.remedy
        )
    folder = results.resolve()
    while not folder.exists():
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    free = f"{free_bytes / GIB:.0f} GiB free at {folder}"
    yield _make_finding("disk", free, is_flaw=free_bytes < MIN_FREE_BYTES, advice="free disk space")


def _query_nvml(query: Callable[[Any], Any], handle: Any) -> str:
    """Return the result of a query of a GPU as text, or NVML's error message."""
    try:
        return str(query(handle))
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
        return str(error)
