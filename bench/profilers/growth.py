"""Whether a process holds more and more memory as it takes steps."""

import numpy as np

from bench.profilers.memory import status_bytes

SETTLED = 1 / 3  # of the looks, in which caches fill; not counted
FEWEST = 8  # looks that a slope is drawn through


class Growth:
    """Resident memory of this process, looked at between steps. Linux; elsewhere there is no slope."""

    def __init__(self) -> None:
        self._looks: list[tuple[int, int]] = []

    def look(self, step: int) -> None:
        """Read it once."""
        resident = status_bytes("VmRSS")
        if resident is not None:
            self._looks.append((step, resident))

    @property
    def bytes_per_step(self) -> float | None:
        """The slope of a straight line through the looks (least squares), the first third aside."""
        settled = self._looks[int(len(self._looks) * SETTLED) :]
        if len(settled) < FEWEST:
            return None
        steps, resident = np.array(settled, dtype=np.float64).T
        return float(np.polyfit(steps - steps[0], resident - resident[0], 1)[0])
