"""Memory of a process: its peak in a process dedicated to the measurement, and its growth with the number of steps."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.profilers.nvml import process_bytes

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): reset the peak of resident memory to the current value
SETTLING_FRACTION = 1 / 3  # of the readings, at the beginning, that is ignored because caches fill
MIN_READINGS = 8  # that a slope needs


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks in bytes; None if this device has no such counter. `bench.records.record.Memory` documents each."""

    rss: int | None
    allocated: int | None
    reserved: int | None
    process: int | None


class PeakMemory:
    """Peaks since construction, which follows the imports and the loading of data.

    On a CPU it is the peak of resident memory above that at construction (Linux only), without pages of mapped files:
    code that runs for the first time maps 12 MiB, or 24 where the page cache has huge pages. Freed memory is returned
    to the kernel first, because reused pages would not raise the peak. Use a new process: pages between live blocks
    cannot be returned. On a GPU, reserved and process memory are totals.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._start_bytes = torch.cuda.memory_allocated(device)
        else:
            if CLEAR_REFS.exists():
                _return_freed_memory()
                CLEAR_REFS.write_text(RESET_PEAK)
            self._start_bytes = _read_bytes_without_files("VmRSS") or 0

    def read(self) -> Peaks:
        """Return the peaks so far."""
        if self._device.type != "cuda":
            peak = _read_bytes_without_files("VmHWM")
            return Peaks(
                None if peak is None else max(0, peak - self._start_bytes), None, None, None
            )
        return Peaks(
            rss=None,
            allocated=torch.cuda.max_memory_allocated(self._device) - self._start_bytes,
            reserved=torch.cuda.max_memory_reserved(self._device),
            process=self._process_bytes(),
        )

    def _process_bytes(self) -> int | None:
        try:
            uuid = str(torch.cuda.get_device_properties(self._device).uuid)
            return process_bytes(uuid, self._device.index or 0)
        except Exception:  # noqa: BLE001 - an instrument's error must not stop the measured run
            return None


class MemoryGrowth:
    """Resident memory of this process, read between steps. Linux only; elsewhere there is no slope."""

    def __init__(self) -> None:
        self._readings: list[tuple[int, int]] = []

    def sample(self, step: int) -> None:
        resident = read_status_bytes("VmRSS")
        if resident is not None:
            self._readings.append((step, resident))

    @property
    def bytes_per_step(self) -> float | None:
        """Least-squares slope of the readings in bytes per step, without the first third; None if there are too few."""
        settled = self._readings[int(len(self._readings) * SETTLING_FRACTION) :]
        if len(settled) < MIN_READINGS:
            return None
        steps, resident = np.array(settled, dtype=np.float64).T
        return float(np.polyfit(steps - steps[0], resident - resident[0], 1)[0])


def _return_freed_memory() -> None:
    """Return what the C library has freed to the kernel, whole pages at a time; only glibc can (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _read_bytes_without_files(field: str) -> int | None:
    """Return a size of resident memory without the pages of mapped files, in bytes; None except on Linux."""
    resident = read_status_bytes(field)
    file_pages = read_status_bytes("RssFile")
    return None if resident is None or file_pages is None else resident - file_pages


def read_status_bytes(field: str) -> int | None:
    """Return a size from Linux's status of this process (proc(5)), in bytes; None elsewhere."""
    if not STATUS.is_file():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) * 1024
