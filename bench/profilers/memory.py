"""Peak memory of a process that is dedicated to the measurement."""

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

from bench.profilers.nvml import read_process_gpu_bytes

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): reset the peak of resident memory to the current value


class PeakMemory:
    """Reads the peaks of memory since its construction, which follows the imports and the loading of data.

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
                _return_freed_memory_to_kernel()
                CLEAR_REFS.write_text(RESET_PEAK)
            self._start_bytes = _read_status_bytes_without_mapped_files("VmRSS") or 0

    def read_peak_bytes_by_field(self) -> dict[str, int]:
        """Return the peaks so far in bytes by field of `bench.records.record.Memory`, without those unknown here."""
        peaks = {}
        if self._device.type == "cuda":
            allocated = torch.cuda.max_memory_allocated(self._device)
            peaks["peak_allocated_bytes"] = allocated - self._start_bytes
            peaks["peak_reserved_bytes"] = torch.cuda.max_memory_reserved(self._device)
            with suppress(Exception):  # an instrument's error must not stop the measured run
                uuid = str(torch.cuda.get_device_properties(self._device).uuid)
                peaks["process_bytes"] = read_process_gpu_bytes(uuid)
            return peaks
        resident = _read_status_bytes_without_mapped_files("VmHWM")
        if resident is not None:
            peaks["peak_rss_bytes"] = max(0, resident - self._start_bytes)
        return peaks


def _return_freed_memory_to_kernel() -> None:
    """Return memory that the C library has freed to the kernel, if it is glibc (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _read_status_bytes_without_mapped_files(status_field: str) -> int | None:
    """Return a field of /proc/self/status without the pages of mapped files, in bytes; None except on Linux."""
    resident = read_process_status_bytes(status_field)
    file_pages = read_process_status_bytes("RssFile")
    if resident is None or file_pages is None:
        return None
    return resident - file_pages


def read_process_status_bytes(status_field: str) -> int | None:
    """Return a field of /proc/self/status (proc(5)) in bytes; None except on Linux."""
    if not STATUS.is_file():
        return None
    lines = STATUS.read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    kibibytes, _ = fields[status_field].split()
    return int(kibibytes) * 1024
