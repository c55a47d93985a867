"""Means, shares and geometric means with their 95 % intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from bench.statistics.p_values import CONFIDENCE, student_t_half_width


@dataclass(frozen=True, slots=True)
class ValueWithInterval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def accuracy_with_wilson_interval(is_correct: Sequence[float]) -> ValueWithInterval:
    """Return the share of items that are right (1, else 0), with Wilson's interval over the items, for one training.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    from scipy.stats import binomtest  # whose import takes most of a second

    share = fmean(is_correct)
    interval = binomtest(round(sum(is_correct)), len(is_correct)).proportion_ci(
        CONFIDENCE, "wilson"
    )
    return ValueWithInterval(share, float(interval.low), float(interval.high))


def mean_with_interval(values: Sequence[float]) -> ValueWithInterval:
    """Return the mean with Student's t interval; ValueError under two values, or for one that is not finite.

    Of the differences by test item of two towers the interval holds for these towers: it can tell one from its
    random-init baseline and cannot rank two methods.
    """
    if len(values) < 2:  # noqa: PLR2004
        raise ValueError("an interval needs two values or more")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"an interval is made of finite figures, got {list(values)}")
    mean = fmean(values)
    error = stdev(values, mean) / math.sqrt(len(values))
    margin = student_t_half_width(error, len(values) - 1)
    return ValueWithInterval(mean, mean - margin, mean + margin)


def geometric_mean_with_interval(values: Sequence[float]) -> ValueWithInterval | None:
    """Return the geometric mean of positive values with Student's t interval of their logarithms; None under two."""
    if len(values) < 2:  # noqa: PLR2004 - one run has no spread
        return None
    logs = mean_with_interval([math.log(value) for value in values])
    low = math.exp(logs.low)
    high = math.exp(logs.high)
    return ValueWithInterval(math.exp(logs.value), low, high)
