"""Student's t, and the adjustment of p values for multiple comparisons."""

from collections.abc import Mapping
from typing import TypeVar

from scipy.special import stdtr, stdtrit

K = TypeVar("K")
CONFIDENCE = 0.95  # of every interval
ROUNDING = 1e-9  # tolerance on logarithms, so that equal differences compare as equal


def adjust_p_values_holm(p_values: Mapping[K, float | None]) -> dict[K, float]:
    """Return p values adjusted by Holm's step-down method for their number; None is no p value, and is left out.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6.
    """
    known = {name: p for name, p in p_values.items() if p is not None}
    adjusted = {}
    largest = 0.0
    for rank, name in enumerate(sorted(known, key=lambda name: known[name])):
        product = known[name] * (len(known) - rank)
        largest = max(largest, min(1.0, product))
        adjusted[name] = largest
    return adjusted


def student_t_half_width(standard_error: float, degrees_of_freedom: float) -> float:
    """Return half of the width of the 95 % interval of a mean with this standard error."""
    end = float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
    return end * standard_error


def student_t_p_value(mean: float, standard_error: float, degrees_of_freedom: float) -> float:
    """Return the two-sided p value of a mean being 0, by Student's t; 1 where the mean is 0.

    It assumes normal differences. For heavy tails it is mostly conservative; for bounded or two-level figures the
    false-positive rate is at most twice the nominal one (`tests/test_p_values.py` counts it, for 25 parts).
    """
    if abs(mean) < ROUNDING:
        return 1.0
    if standard_error == 0:
        return 0.0
    return 2 * float(stdtr(degrees_of_freedom, -abs(mean) / standard_error))
