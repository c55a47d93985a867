"""The search for the best setting of a probe: a grid that is extended where its end is the best."""

from collections.abc import Iterator, Sequence

import numpy as np

# C, the inverse of the L2 penalty.
INVERSE_L2 = tuple(float(strength) for strength in np.logspace(-5, 0, 11))
INVERSE_L2_LIMITS = 1e-8, 1e6  # within which the grid is extended


class HyperparameterSearch:
    """An iterator over the settings to try; the caller appends a setting's quality before it asks for the next.

    With `limits` the grid of settings is extended at its own ratio beyond an end that is the best, so that the best
    setting lies inside of what was tried, or at a limit. Of equally good settings the first one tried is the best.
    """

    def __init__(
        self, settings: Sequence[float], limits: tuple[float, float] | None = None
    ) -> None:
        self.settings = list(settings)
        self.qualities = list[float]()
        self._limits = limits

    def __iter__(self) -> Iterator[float]:
        yield from self.settings[:]
        if self._limits is None:
            return
        lowest, highest = self._limits
        low = self.settings[0]
        high = self.settings[-1]
        ratio = high / self.settings[-2]
        while self.best_setting == high and high * ratio <= highest:
            high *= ratio
            self.settings.append(high)
            yield high
        while self.best_setting == low and low / ratio >= lowest:
            low /= ratio
            self.settings.append(low)
            yield low

    @property
    def best_setting(self) -> float:
        """The setting of the highest quality so far."""
        return self.settings[int(np.argmax(self.qualities))]
