"""The GPUs that runs can use. torch is asked in a process of its own, so that none is imported here."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pynvml

from bench.environment.gpu_settings import get_nvml_handle

# Device files of the drivers of NVIDIA, of AMD and of the Windows Subsystem for Linux.
DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
PRINT_UUIDS = """
import torch
for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    print(torch.cuda.get_device_properties(index).uuid)
"""


@cache
def list_visible_gpu_uuids() -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that torch can use, in the order of their CUDA indices."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_UUIDS], capture_output=True, text=True, check=False
    )
    return tuple(done.stdout.split())


def count_usable_gpus() -> int:
    """Return the number of GPUs that torch can use.

    torch is asked only where NVML or a device file says that there is a GPU. Raises ValueError if torch can use GPUs
    that NVML does not list: runs would use them and be planned as on a CPU.
    """
    num_listed = _count_nvml_gpus()
    if not num_listed and not any(path.exists() for path in DRIVER_FILES):
        return 0
    num_visible = len(list_visible_gpu_uuids())
    if num_visible and not num_listed:
        raise ValueError(
            f"torch can use {num_visible} GPUs, and NVML lists none: install NVIDIA's library libnvidia-ml.so.1, "
            "or set CUDA_VISIBLE_DEVICES= to run on the CPU"
        )
    return num_visible


def get_first_gpu_nvml_handle() -> Any:
    """Return NVML's handle of the first GPU that torch can use; NVMLError if NVML does not list it."""
    pynvml.nvmlInit()
    return get_nvml_handle(list_visible_gpu_uuids()[0])


@cache
def _count_nvml_gpus() -> int:
    """Return the number of GPUs that NVML lists; 0 without NVML."""
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0
