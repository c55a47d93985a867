"""Peak memory of a process that does nothing else."""

from pathlib import Path

import psutil
import torch

from bench.record import Memory

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): reset the peak of resident memory to what is resident


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

    def read(self, steps: int) -> Memory:
        """Return the peaks after so many steps."""
        cuda = self._device.type == "cuda"
        peak = None if cuda else _most_resident_bytes()
        return Memory(
            steps=steps,
            peak_rss_bytes=None if peak is None else peak - self._held,
            peak_allocated_bytes=torch.cuda.max_memory_allocated(self._device) - self._held if cuda else None,
            peak_reserved_bytes=torch.cuda.max_memory_reserved(self._device) if cuda else None,
        )


def _most_resident_bytes() -> int | None:
    if not STATUS.is_file():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
