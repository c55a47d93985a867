"""The search for the best setting of a probe: a grid that is extended where its end is the best."""

from collections.abc import Iterator, Sequence

import numpy as np

INVERSE_L2 = tuple(float(strength) for strength in np.logspace(-5, 0, 11))  # C, the inverse of the L2 penalty
INVERSE_L2_LIMITS = 1e-8, 1e6  # within which the grid is extended


class HyperparameterSearch:
    """The settings to try, one after another: the quality of each is appended before the next is drawn.

    With `limits` the grid of settings is extended at its own ratio beyond an end that is the best, so that the best
    setting lies inside of what was tried, or at a limit. Of equally good settings the first one tried is the best.
    """

    def __init__(self, settings: Sequence[float], limits: tuple[float, float] | None = None) -> None:
        self.settings, self._limits, self.qualities = list(settings), limits, list[float]()

    def __iter__(self) -> Iterator[float]:
        yield from self.settings[:]
        if self._limits is None:
            return
        low, high = self.settings[0], self.settings[-1]
        ratio, (lowest, highest) = high / self.settings[-2], self._limits
        while self.best == high and high * ratio <= highest:
            self.settings.append(high := high * ratio)
            yield high
        while self.best == low and low / ratio >= lowest:
            self.settings.append(low := low / ratio)
            yield low

    @property
    def best(self) -> float:
        return self.settings[int(np.argmax(self.qualities))]
