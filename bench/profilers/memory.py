"""Peak memory of a process that does nothing else."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from bench.profilers.nvml import process_bytes

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): reset the peak of resident memory to what is resident


@dataclass(frozen=True, slots=True)
class Peaks:
    """Bytes; None: this device keeps no such count. `bench.record.Memory` says what each is."""

    rss: int | None
    allocated: int | None
    reserved: int | None
    process: int | None


class PeakMemory:
    """Peaks above what is held when the instrument is made, which is after the imports and the data.

    On a CPU: the most resident memory since, minus what was resident (Linux only). It needs a fresh process: an
    allocator keeps what it was given, and the same model measured 1,359 MiB first and 610 MiB second.
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
        """Return the peaks up to now."""
        if self._device.type != "cuda":
            peak = status_bytes("VmHWM")
            return Peaks(None if peak is None else peak - self._held, None, None, None)
        return Peaks(
            rss=None,
            allocated=torch.cuda.max_memory_allocated(self._device) - self._held,
            reserved=torch.cuda.max_memory_reserved(self._device),
            process=_process_bytes(self._device),
        )


def status_bytes(field: str) -> int | None:
    """Return a size that Linux keeps of this process (proc(5), status); None elsewhere."""
    if not STATUS.is_file():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


def _process_bytes(device: torch.device) -> int | None:
    try:
        return process_bytes(str(torch.cuda.get_device_properties(device).uuid), device.index or 0)
    except Exception:  # noqa: BLE001 - an instrument must not stop what it measures
        return None
