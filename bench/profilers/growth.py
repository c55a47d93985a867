"""Growth of a process's memory with the number of steps."""

import numpy as np

from bench.profilers.memory import read_status_bytes

SETTLED = 1 / 3  # fraction of the readings, at the beginning, that is ignored because caches fill
FEWEST = 8  # readings that a slope needs


class MemoryGrowth:
    """Resident memory of this process, read between steps. Linux only; elsewhere there is no slope."""

    def __init__(self) -> None:
        self._looks: list[tuple[int, int]] = []

    def sample(self, step: int) -> None:
        resident = read_status_bytes("VmRSS")
        if resident is not None:
            self._looks.append((step, resident))

    @property
    def bytes_per_step(self) -> float | None:
        """Least-squares slope of the readings in bytes per step, without the first third; None if there are too few."""
        settled = self._looks[int(len(self._looks) * SETTLED) :]
        if len(settled) < FEWEST:
            return None
        steps, resident = np.array(settled, dtype=np.float64).T
        return float(np.polyfit(steps - steps[0], resident - resident[0], 1)[0])
