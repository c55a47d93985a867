"""Peak memory of a process that does nothing else."""

from pathlib import Path

import psutil
import torch

from bench.record import Memory

STATUS = Path("/proc/self/status")


class PeakMemory:
    """Peaks since the instrument was made, which must be after the imports and before the model.

    On a CPU: the most resident memory the process ever had minus what was resident at the start (Linux only). It
    needs a fresh process: a peak is never given back, and the same model measured 1,359 MiB first and 610 MiB second.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._resident = psutil.Process().memory_info().rss

    def read(self, steps: int) -> Memory:
        """Return the peaks after so many steps."""
        if self._device.type == "cuda":
            return Memory(
                steps=steps,
                peak_rss_bytes=None,
                peak_allocated_bytes=torch.cuda.max_memory_allocated(self._device),
                peak_reserved_bytes=torch.cuda.max_memory_reserved(self._device),
            )
        peak = _most_resident_bytes()
        return Memory(
            steps=steps,
            peak_rss_bytes=None if peak is None else peak - self._resident,
            peak_allocated_bytes=None,
            peak_reserved_bytes=None,
        )


def _most_resident_bytes() -> int | None:
    if not STATUS.is_file():
        return None
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024
