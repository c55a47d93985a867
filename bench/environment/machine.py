"""The machine and software that a speed depends on: device, threads, versions, commit."""

import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch
from torch.distributed import is_nccl_available

from bench.environment.gpu_settings import GpuSettings, get_nvml_handle, read_gpu_settings
from bench.environment.torchrun_ranks import read_torchrun_ranks

PACKAGES = ("torch", "open_clip_torch", "timm", "numpy")


def default_device() -> torch.device:
    """Return the GPU of this process's local rank, or the CPU without a GPU. CUDA is not initialised."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", read_torchrun_ranks().local_rank)


def describe_gpu_and_cpu(device: torch.device) -> str:
    """Return the names of the GPU, if any, and of the CPU, with its number of logical cores."""
    processor = f"{_cpu_name()}, {psutil.cpu_count(logical=True)} logical cores"
    if device.type != "cuda":
        return processor
    return f"{torch.cuda.get_device_name(device)}; {processor}"


def read_gpu_settings_of_device(device: torch.device) -> GpuSettings:
    """Return `read_gpu_settings` of a device; empty for a CPU, or without NVML."""
    if device.type == "cuda":
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            return read_gpu_settings(get_nvml_handle(gpu_uuid(device)))
    return {}


def gpu_uuid(device: torch.device) -> str:
    """Return the UUID of a GPU; empty for a CPU."""
    if device.type != "cuda":
        return ""
    return str(torch.cuda.get_device_properties(device).uuid)


def package_versions(device: torch.device) -> dict[str, str]:
    """Return versions by name: of Python, of packages, and on a GPU of its libraries."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        versions[name] = version(name)
    if device.type != "cuda":
        return versions
    libraries: dict[str, Any] = {"CUDA": torch.version.cuda}
    libraries["cuDNN"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    if is_nccl_available():
        libraries["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    with suppress(PackageNotFoundError):
        libraries["triton"] = version("triton")
    for name, number in libraries.items():
        if number is not None:
            versions[name] = str(number)
    return versions


def _cpu_name() -> str:
    """Return the processor's name from Linux's /proc/cpuinfo, else from Python."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    match = re.search(r"^model name[^:\n]*:(.*)", text, re.MULTILINE)
    if match:
        return " ".join(match[1].split())
    return platform.processor() or platform.machine()
