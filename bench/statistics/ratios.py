"""Ratios of rates, with their intervals, p and verdicts.

The unit of repetition of a speed is the run (a process), never the window: windows of one run are correlated. The
interval of a ratio is over the runs of one comparison on one machine; it says nothing of other machines, seeds or data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, Literal

from bench.statistics.p_values import (
    ROUNDING,
    K,
    adjust_p_values_holm,
    student_t_half_width,
    student_t_p_value,
)

Verdict = Literal["faster", "slower", "no difference", "inconclusive"]
RateByRound = Mapping[Any, float]  # the rate of one run per round, by the round's number or name
LogRateByRound = Mapping[Any, float]  # natural logarithms of these
ALPHA = 0.01  # a verdict of "faster", "slower", "better" or "worse" needs an adjusted p at or under this
SMALLEST_EFFECT = 0.02  # and one on speed a ratio at least this far from 1
MIN_RUNS = 5  # of each group for a verdict: with fewer, Student's t leans on a normal distribution


@dataclass(frozen=True, slots=True)
class RateRatio:
    """The ratio of two groups' rates, the second over the first, with its interval and p; None: too few runs."""

    value: float
    low: float | None  # ends of the 95 % interval
    high: float | None
    p: float | None  # of a ratio of 1
    runs: tuple[int, int]  # number of runs of each group

    @property
    def verdict(self) -> Verdict:
        """Whether the second group is faster than the first."""
        if self.low is None or self.high is None or self.p is None:
            return "inconclusive"
        if min(self.runs) < MIN_RUNS:
            return "inconclusive"
        smallest = math.log1p(SMALLEST_EFFECT) - ROUNDING
        is_large = abs(math.log(self.value)) >= smallest
        if self.p <= ALPHA and is_large:
            return "faster" if self.value > 1 else "slower"
        log_low = math.log(self.low)
        log_high = math.log(self.high)
        if log_low > -smallest and log_high < smallest:
            return "no difference"
        return "inconclusive"


def compare_rates(base: RateByRound, other: RateByRound) -> RateRatio:
    """Return the ratio other / base of two groups' rates. See `compare_rate_pairs`."""
    return compare_rate_pairs({"": (base, other)})[""]


def compare_rate_pairs(
    pairs: Mapping[K, tuple[RateByRound, RateByRound]],
) -> dict[K, RateRatio]:
    """Return the ratio second / first of each pair of groups, a ratio of geometric means over runs.

    p and verdict are adjusted for the number of pairs by Holm's step-down.

    Interval and p are those of Student's t on the rounds' differences of logarithms, so that what the runs of a round
    share, such as a machine that gets slower, cancels. Groups with fewer than two rounds in common are compared by
    Student's t on all runs with a pooled spread.

    Figures are rates: more is "faster", which is reported where p and the size of the ratio agree. Intervals stay those
    of single ratios. A p of None (too few runs) is left out of the family. Raises ValueError where a figure is not
    positive and finite.
    """
    ratios = {}
    for name, (base, other) in pairs.items():
        ratios[name] = _compare_log_rates(_log_rates(base), _log_rates(other))
    adjusted = adjust_p_values_holm({name: ratio.p for name, ratio in ratios.items()})
    return {name: replace(ratio, p=adjusted.get(name)) for name, ratio in ratios.items()}


def compute_rate_ratio_without_interval(base: RateByRound, other: RateByRound) -> RateRatio:
    """Return the ratio other / base without interval and p, such as the ratio of runs that other work disturbed."""
    base_mean = fmean(_log_rates(base).values())
    other_mean = fmean(_log_rates(other).values())
    ratio = math.exp(other_mean - base_mean)
    return RateRatio(ratio, None, None, None, runs=(len(base), len(other)))


def _compare_log_rates(base: LogRateByRound, other: LogRateByRound) -> RateRatio:
    """Return the ratio other / base of rates that are given as logarithms by round; p is not adjusted."""
    shared_rounds = sorted(base.keys() & other.keys())
    num_rounds = len(shared_rounds)
    if num_rounds < 2:  # noqa: PLR2004
        return compare_log_rates_of_independent_runs(list(base.values()), list(other.values()))
    differences = [other[number] - base[number] for number in shared_rounds]
    standard_error = stdev(differences) / math.sqrt(num_rounds)
    return _ratio_from_log(
        fmean(differences), standard_error, num_rounds - 1, (num_rounds, num_rounds)
    )


def compare_log_rates_of_independent_runs(
    base_logs: Sequence[float], other_logs: Sequence[float]
) -> RateRatio:
    """Return the ratio other / base of runs that share no rounds, by Student's t with a pooled spread.

    The rates of the runs are given as natural logarithms.
    """
    difference = fmean(other_logs) - fmean(base_logs)
    num_base = len(base_logs)
    num_other = len(other_logs)
    runs = (num_base, num_other)
    if min(runs) == 1:  # one run has no spread
        return RateRatio(math.exp(difference), None, None, None, runs)
    degrees_of_freedom = num_base + num_other - 2
    base_squares = (num_base - 1) * stdev(base_logs) ** 2
    other_squares = (num_other - 1) * stdev(other_logs) ** 2
    pooled_variance = (base_squares + other_squares) / degrees_of_freedom
    inverse_sizes = 1 / num_base + 1 / num_other
    standard_error = math.sqrt(pooled_variance * inverse_sizes)
    return _ratio_from_log(difference, standard_error, degrees_of_freedom, runs)


def _ratio_from_log(
    log_ratio: float, standard_error: float, degrees_of_freedom: int, runs: tuple[int, int]
) -> RateRatio:
    """Return the ratio whose logarithm is given, with Student's t interval and p from its standard error."""
    margin = student_t_half_width(standard_error, degrees_of_freedom)
    low = math.exp(log_ratio - margin)
    high = math.exp(log_ratio + margin)
    p = student_t_p_value(log_ratio, standard_error, degrees_of_freedom)
    return RateRatio(math.exp(log_ratio), low, high, p, runs)


def _log_rates(rates: RateByRound) -> LogRateByRound:
    """Return the natural logarithms by round; ValueError for a rate that is not positive and finite."""
    log_rates = {}
    for number, rate in rates.items():
        if not 0 < rate < math.inf:
            raise ValueError(f"a ratio is made of positive finite figures, got {rate}")
        log_rates[number] = math.log(rate)
    return log_rates
