"""The driver and the settings of a GPU that its speed depends on, from NVML. No torch here."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable

SWITCH = ("off", "on")
GpuSettings = dict[str, str | None]  # as text by name; None: NVML does not tell


def get_nvml_handle(cuda_uuid: str) -> Any:
    """Return NVML's handle of the GPU with CUDA's UUID.

    NVML must be initialised. `cuda_uuid` has no prefix "GPU-"; the two libraries number GPUs differently. NVMLError if
    NVML lists no such GPU, as for a MIG slice.
    """
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{cuda_uuid}")


def read_gpu_settings(handle: Any) -> GpuSettings:
    """Return driver, power limit, ECC, MIG and clocks of a GPU."""
    get_clock = pynvml.nvmlDeviceGetApplicationsClock
    queries: dict[str, Callable[[], str]] = {
        "driver": pynvml.nvmlSystemGetDriverVersion,
        "power limit": lambda: f"{pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000:g} W",
        "ECC": lambda: SWITCH[pynvml.nvmlDeviceGetEccMode(handle)[0]],
        "MIG": lambda: SWITCH[pynvml.nvmlDeviceGetMigMode(handle)[0]],
        "application SM clock": lambda: f"{get_clock(handle, pynvml.NVML_CLOCK_SM)} MHz",
        "application memory clock": lambda: f"{get_clock(handle, pynvml.NVML_CLOCK_MEM)} MHz",
    }
    settings = GpuSettings.fromkeys(queries)
    for name, query in queries.items():
        with suppress(pynvml.NVMLError):
            settings[name] = query()
    return settings


def format_gpu_settings(settings: GpuSettings) -> str:
    """Return the settings of a GPU in one line."""
    return ", ".join(f"{name} {value or 'unknown'}" for name, value in settings.items())
