"""The search for the best setting of a probe: a grid that is extended where its end is the best."""

from collections.abc import Callable, Sequence

import numpy as np

# C, the inverse of the L2 penalty.
INVERSE_L2 = tuple(float(strength) for strength in np.logspace(-5, 0, 11))
INVERSE_L2_LIMITS = 1e-8, 1e6  # within which the grid is extended


def find_best_setting(
    measure_quality: Callable[[float], float],
    settings: Sequence[float],
    limits: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return the setting of the highest quality, and this quality; of equally good settings the first one tried.

    With `limits` the grid of settings is extended at its own ratio beyond an end that is the best, so that the best
    setting lies inside of what was tried, or at a limit.
    """
    qualities = {setting: measure_quality(setting) for setting in settings}

    def best_setting() -> float:
        return max(qualities, key=lambda setting: qualities[setting])

    if limits is not None:
        lowest, highest = limits
        low = settings[0]
        high = settings[-1]
        ratio = high / settings[-2]
        while best_setting() == high and high * ratio <= highest:
            high *= ratio
            qualities[high] = measure_quality(high)
        while best_setting() == low and low / ratio >= lowest:
            low /= ratio
            qualities[low] = measure_quality(low)
    best = best_setting()
    return best, qualities[best]
