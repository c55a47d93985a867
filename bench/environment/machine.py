"""The machine and software that a speed depends on: device, threads, versions, commit."""

import os
import platform
import re
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch
from torch.distributed import is_nccl_available

from bench.environment.busy_processes import BUSY_PROCESSES
from bench.environment.circumstances import LOADED_EXTENSIONS, Circumstances, current_commit, summarize_machine
from bench.environment.gpu_settings import device_handle, read_gpu_settings
from bench.environment.rank_info import torchrun_env
from bench.environment.tf32 import describe_tf32
from bench.experiment.config import Experiment, change
from bench.experiment.fields import RuntimeSettings, TextPadding
from bench.tables.formats import GIB

PACKAGES = ("torch", "open_clip_torch", "timm", "numpy")


def default_device() -> torch.device:
    """Return this process's GPU, with its index, if there is one, else the CPU. CUDA is not initialised."""
    return torch.device("cuda", torchrun_env().local_rank) if torch.cuda.is_available() else torch.device("cpu")


def current_circumstances(experiment: Experiment | None, device: torch.device, processes: int = 1) -> Circumstances:
    """Return the circumstances of a run whose batches `processes` share, with "auto" fields resolved."""
    precision, compiled = resolve_precision_and_compile(experiment.runtime, device) if experiment else ("fp32", False)
    memory = psutil.virtual_memory().total / GIB
    return Circumstances(
        # Records of different machines are never compared.
        machine=f"{describe_processors(device)}, {memory:.0f} GiB, {platform.system()}",
        device=device.type,
        threads=torch.get_num_threads(),
        precision=precision,
        compiled=compiled,
        packages=package_versions(device),
        commit=current_commit(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        processes=processes,
        gpu=gpu_settings(device) | ({"TF32": describe_tf32()} if device.type == "cuda" else {}),
        extensions=dict(LOADED_EXTENSIONS),
        gpu_uuid=gpu_uuid(device),
        busy_processes=os.environ.get(BUSY_PROCESSES, ""),
    )


def resolve_precision_and_compile(runtime: RuntimeSettings, device: torch.device) -> tuple[str, bool]:
    """Return the precision and whether to compile: on CUDA bf16 and compiled, on a CPU fp32 and eager by default."""
    cuda = device.type == "cuda"
    precision = runtime.precision if runtime.precision != "auto" else ("bf16" if cuda else "fp32")
    compiled = cuda if runtime.compile == "auto" else runtime.compile != "off"
    return precision, compiled


def resolve_padding(experiment: Experiment, device: torch.device) -> TextPadding:
    """Return the padding of captions: by default packed if compiled, because every new shape is compiled anew."""
    if experiment.text.text_padding != "auto":
        return experiment.text.text_padding
    return "packed" if resolve_precision_and_compile(experiment.runtime, device)[1] else "bucketed"


def with_resolved_padding(experiment: Experiment, device: torch.device) -> Experiment:
    """Return the experiment with the padding of its captions on a device, for processes that know no device."""
    return change(experiment, text_padding=resolve_padding(experiment, device))


def describe_processors(device: torch.device) -> str:
    processor = f"{_cpu_name()}, {psutil.cpu_count(logical=True)} logical cores"
    return f"{torch.cuda.get_device_name(device)}; {processor}" if device.type == "cuda" else processor


def gpu_settings(device: torch.device) -> dict[str, str | None]:
    """Return the settings of a GPU; empty for a CPU, or without NVML."""
    if device.type == "cuda":
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            return read_gpu_settings(device_handle(gpu_uuid(device), device.index or 0))
    return {}


def gpu_uuid(device: torch.device) -> str:
    """Return the UUID of a GPU; empty for a CPU."""
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""


def package_versions(device: torch.device) -> dict[str, str]:
    """Return the versions of Python and of packages, on a GPU also of its libraries; what is not installed has none."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    if device.type != "cuda":
        return versions
    nccl, cudnn = torch.cuda.nccl.version, torch.backends.cudnn.version
    libraries: dict[str, Any] = {"CUDA": torch.version.cuda, "cuDNN": cudnn()}  # type: ignore[no-untyped-call]
    libraries["NCCL"] = ".".join(map(str, nccl())) if is_nccl_available() else None  # type: ignore[no-untyped-call]
    with suppress(PackageNotFoundError):
        libraries["triton"] = version("triton")
    return versions | {name: str(number) for name, number in libraries.items() if number is not None}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file() and (names := re.findall(r"^model name[^:\n]*:(.*)", info.read_text(), re.MULTILINE)):
        return " ".join(names[0].split())
    return platform.processor() or platform.machine()


if __name__ == "__main__":  # print the fingerprint of this machine for one process
    print(summarize_machine(current_circumstances(None, default_device())))
