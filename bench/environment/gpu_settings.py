"""The driver and the settings of a GPU that its speed depends on, from NVML. No torch here."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pynvml

SWITCH = ("off", "on")


def device_handle(uuid: str, index: int) -> Any:
    """Return NVML's handle of the device with CUDA's `index`: the two libraries number devices differently.

    The device is found by UUID; a MIG slice by CUDA_VISIBLE_DEVICES, if that names one.
    """
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    slices = [name for name in visible[index : index + 1] if name.startswith("MIG-")]
    for name in [*slices, f"GPU-{uuid}"]:
        with suppress(pynvml.NVMLError):
            return pynvml.nvmlDeviceGetHandleByUUID(name)
    return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def is_mig_slice(handle: Any) -> bool:
    """Return whether a handle is a MIG slice; cards and drivers without MIG do not support the question."""
    try:
        return bool(pynvml.nvmlDeviceIsMigDeviceHandle(handle))
    except pynvml.NVMLError:
        return False


def gpu_of_mig_slice(handle: Any) -> Any:
    """Return NVML's handle of a GPU, of a MIG slice that of its GPU: a slice has no clock, temperature or settings."""
    return (
        pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        if is_mig_slice(handle)
        else handle
    )


def read_gpu_settings(handle: Any) -> dict[str, str | None]:
    """Return driver, power limit, ECC, MIG and clocks of a GPU, or of the GPU of a slice; None: NVML does not tell."""
    handle = gpu_of_mig_slice(handle)
    queries: dict[str, Callable[[], str]] = {
        "driver": pynvml.nvmlSystemGetDriverVersion,
        "power limit": lambda: f"{pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000:g} W",
        "ECC": lambda: SWITCH[pynvml.nvmlDeviceGetEccMode(handle)[0]],
        "MIG": lambda: SWITCH[pynvml.nvmlDeviceGetMigMode(handle)[0]],
        "application SM clock": lambda: (
            f"{pynvml.nvmlDeviceGetApplicationsClock(handle, pynvml.NVML_CLOCK_SM)} MHz"
        ),
        "application memory clock": lambda: (
            f"{pynvml.nvmlDeviceGetApplicationsClock(handle, pynvml.NVML_CLOCK_MEM)} MHz"
        ),
    }
    settings = dict[str, str | None].fromkeys(queries)
    for name, query in queries.items():
        with suppress(pynvml.NVMLError):
            settings[name] = query()
    return settings


def format_gpu_settings(settings: Mapping[str, str | None]) -> str:
    """Write the settings of a GPU in one line."""
    return ", ".join(f"{name} {value or 'unknown'}" for name, value in settings.items())
