"""Peak memory of a process dedicated to the measurement."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from bench.profilers.nvml import process_bytes

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): reset the peak of resident memory to the current value


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks in bytes; None if this device has no such counter. `bench.record.Memory` documents each."""

    rss: int | None
    allocated: int | None
    reserved: int | None
    process: int | None


class PeakMemory:
    """Peaks above the memory at construction, which follows the imports and the loading of data.

    On a CPU it is the peak of resident memory above the resident memory at construction (Linux only). It needs a new
    process, because an allocator keeps freed memory: one model measured 1,359 MiB first and 610 MiB second.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._held = torch.cuda.memory_allocated(device)
        else:
            if RESET.exists():
                RESET.write_text(RESET_PEAK)
            self._held = psutil.Process().memory_info().rss

    def read(self) -> Peaks:
        if self._device.type != "cuda":
            peak = read_status_bytes("VmHWM")
            return Peaks(None if peak is None else peak - self._held, None, None, None)
        return Peaks(
            rss=None,
            allocated=torch.cuda.max_memory_allocated(self._device) - self._held,
            reserved=torch.cuda.max_memory_reserved(self._device),
            process=_process_bytes(self._device),
        )


def read_status_bytes(field: str) -> int | None:
    """Return a size from Linux's status of this process (proc(5)), in bytes; None elsewhere."""
    if not STATUS.is_file():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


def _process_bytes(device: torch.device) -> int | None:
    try:
        return process_bytes(str(torch.cuda.get_device_properties(device).uuid), device.index or 0)
    except Exception:  # noqa: BLE001 - an instrument's error must not stop the measured run
        return None
