"""Ratios of rates, with their intervals, p and verdicts.

The unit of repetition of a speed is the run (a process), never the window: windows of one run are correlated. The
interval of a ratio is over runs on one machine in one hour; it says nothing of other machines, seeds or data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Literal

from bench.statistics.disturbance import RoundsMean, mean_log_over_rounds
from bench.statistics.intervals import _student_t_quantile
from bench.statistics.p_values import ROUNDING, holm, permutation_p, sign_flip_p, student_t_p

Verdict = Literal["faster", "slower", "no difference", "inconclusive", "disturbed"]
Rounds = Mapping[int, float]  # the figure of one run a round, by the round's number
NO_SLOWNESS: Mapping[str, tuple[Rounds, Rounds]] = MappingProxyType({})
ALPHA = 0.01  # a verdict of "faster", "slower", "better" or "worse" needs an adjusted p at or under this
SMALLEST_EFFECT = 0.02  # and one on speed a ratio at least this far from 1
MIN_FIGURE, MAX_FIGURE = 1e-40, 1e40  # beyond these a figure is a fault, not a measurement
MIN_ROUNDS = 5
MAX_LOG_SLOWDOWN = math.log(3)  # left in a ratio; beyond it no widening is known to suffice
MIN_PAIRED_ROUNDS = 10  # rounds; under these a sign flip finds less than a permutation, unless the machine drifts


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times larger the second group's figure is, with its interval; None where it cannot be had."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    runs: tuple[int, int]
    verdict: Verdict
    is_paired: bool = False  # whether p flips the signs of rounds; else it permutes all runs, or is Student's
    log_slowdown: float = 0.0  # logarithm of the slowdown by other work that is left in the runs
    interval_before_widening: tuple[float, float] | None = (
        None  # the interval without what that adds to it; None: it adds nothing
    )


def ratio_of(base: Rounds, other: Rounds) -> Ratio:
    """Compare two groups of runs by the means of their logarithms: the value is other / base. See `ratios_of_pairs`."""
    return ratios_of(base, {"other": other})["other"]


def ratios_of(
    base: Rounds, others: Mapping[str, Rounds], log_slowdown: Mapping[str, tuple[Rounds, Rounds]] = NO_SLOWNESS
) -> dict[str, Ratio]:
    """Compare several groups with one base. See `ratios_of_pairs`."""
    return ratios_of_pairs({name: (base, other) for name, other in others.items()}, log_slowdown)


def ratios_of_pairs(
    pairs: Mapping[str, tuple[Rounds, Rounds]],
    log_slowdown: Mapping[str, tuple[Rounds, Rounds]] = NO_SLOWNESS,
    *,
    exact: bool = True,
) -> dict[str, Ratio]:
    """Compare the groups of each pair; p and verdict are adjusted for the number of pairs by Holm's step-down.

    From five common rounds on the interval is Student's t on the rounds' differences: it covers what it says however
    much of their luck the runs of a round share, where that of unpaired runs would be too wide; under five it is
    Student's t on all runs with a pooled spread (a percentile bootstrap of five runs covers 83 % where it says 95 %).
    p is exact: by permutation of all runs under ten rounds, for so few pairs have too few signs to flip (a change of
    5 % at 2 % spread in eight rounds: found 71 % by flips, 96 % by permutation), and by flipping the signs of the
    rounds' differences from ten on (more, where so many ratios could not be called), so that a drift falls out.
    Without `exact` it is Student's on those differences, five or more: for many ratios in few rounds, which have too
    few signs, and whose unpaired runs differ by the machine's luck more than by what is looked for.

    `log_slowdown` has the logarithm by which other work still slows each group's runs, by pair. Such rounds count less,
    the interval is wider by what the slowdown may add to the ratio (`mean_log_over_rounds`), and p is that of Student's
    t for a difference beyond that.

    Figures are rates: more is "faster", which is reported where p, size and interval agree. Intervals stay those of
    single ratios. A p of None (too few runs) is left out of the family. Raises ValueError where a figure is not
    positive and finite.
    """
    ratios = {
        name: _compare(base, other, log_slowdown.get(name, ({}, {})), len(pairs), exact=exact)
        for name, (base, other) in pairs.items()
    }
    known = [(name, ratio.p) for name, ratio in ratios.items() if ratio.p is not None]
    adjusted = zip((name for name, _ in known), holm([p for _, p in known]), strict=True)
    return ratios | {name: _judge_ratio(ratios[name], p) for name, p in adjusted}


def _compare(
    base: Rounds, other: Rounds, log_slowdown: tuple[Rounds, Rounds], num_ratios: int, *, exact: bool
) -> Ratio:
    """Return the ratio with its p, before p is adjusted and the ratio judged."""
    a, b = _logarithms(base), _logarithms(other)
    if not (rounds := sorted(a.keys() & b.keys())):
        return _compare_unpaired([*a.values()], [*b.values()])
    differences = [b[round_] - a[round_] for round_ in rounds]
    slowed = [tuple(of.get(round_, 0.0) for of in log_slowdown) for round_ in rounds]
    mean = mean_log_over_rounds(differences, [*map(max, slowed)], [of_other - of_base for of_base, of_other in slowed])
    if len(rounds) < MIN_ROUNDS:
        return _widen_for_disturbance(_compare_unpaired([*a.values()], [*b.values()]), mean)
    is_paired = exact and not mean.log_slowdown and len(rounds) >= MIN_PAIRED_ROUNDS
    is_paired = is_paired and num_ratios * 2 / 2 ** len(rounds) <= ALPHA
    if mean.log_slowdown or not exact:
        p = student_t_p(max(0.0, abs(mean.value) - mean.widening), mean.error, len(rounds) - 1)
    elif is_paired:
        p = sign_flip_p(differences)
    else:
        p = permutation_p(*([one[round_] for round_ in rounds] for one in (a, b)))
    runs, margin = (len(rounds), len(rounds)), _student_t_quantile(len(rounds) - 1) * mean.error
    return _widen_for_disturbance(_to_ratio(mean.value, margin, p, runs, is_paired=is_paired), mean)


def _compare_unpaired(a: Sequence[float], b: Sequence[float]) -> Ratio:
    difference, runs = fmean(b) - fmean(a), (len(a), len(b))
    if min(runs) < 2:  # noqa: PLR2004 - one run has no spread
        return Ratio(math.exp(difference), None, None, None, runs, "inconclusive")
    degrees_of_freedom = sum(runs) - 2
    pooled = math.sqrt(((len(a) - 1) * stdev(a) ** 2 + (len(b) - 1) * stdev(b) ** 2) / degrees_of_freedom)
    margin = _student_t_quantile(degrees_of_freedom) * pooled * math.sqrt(1 / len(a) + 1 / len(b))
    return _to_ratio(difference, margin, permutation_p(a, b), runs)


def _to_ratio(difference: float, margin: float, p: float, runs: tuple[int, int], *, is_paired: bool = False) -> Ratio:
    low, high = math.exp(difference - margin), math.exp(difference + margin)
    return Ratio(math.exp(difference), low, high, p, runs, "inconclusive", is_paired)


def _widen_for_disturbance(ratio: Ratio, mean: RoundsMean) -> Ratio:
    """Return the ratio with an interval that is wider by what other work may have changed in the mean."""
    if not mean.log_slowdown or ratio.low is None or ratio.high is None:
        return replace(ratio, log_slowdown=mean.log_slowdown)
    low, high = ratio.low / math.exp(mean.widening), ratio.high * math.exp(mean.widening)
    return replace(
        ratio, low=low, high=high, log_slowdown=mean.log_slowdown, interval_before_widening=(ratio.low, ratio.high)
    )


def _judge_ratio(ratio: Ratio, p: float) -> Ratio:
    """Return the ratio with its adjusted p and its verdict."""
    assert ratio.low is not None
    assert ratio.high is not None
    difference, smallest = math.log(ratio.value), math.log1p(SMALLEST_EFFECT) - ROUNDING
    verdict: Verdict = "inconclusive"
    if ratio.log_slowdown > MAX_LOG_SLOWDOWN:
        verdict = "disturbed"
    elif p <= ALPHA and abs(difference) >= smallest and not ratio.low <= 1 <= ratio.high:
        verdict = "faster" if difference > 0 else "slower"
    elif math.log(ratio.low) > -smallest and math.log(ratio.high) < smallest:
        verdict = "no difference"
    return replace(ratio, p=p, verdict=verdict)


def fewest_rounds(num_ratios: int) -> int:
    """Return the smallest number of rounds, five or more, in which every one of the ratios can be called.

    n unpaired runs a side reach p = 2 / C(2n, n) at best; Holm multiplies the smallest of k by k. Five suffice for one
    ratio (0.008), six are needed for two to four.
    """
    rounds = MIN_ROUNDS
    while num_ratios * 2 / math.comb(2 * rounds, rounds) > ALPHA:
        rounds += 1
    return rounds


def log_std(runs: Rounds) -> float | None:
    """Return the standard deviation of the runs' logarithms, about their relative spread; None under two runs."""
    return stdev(_logarithms(runs).values()) if len(runs) > 1 else None


def _logarithms(figures: Rounds) -> dict[int, float]:
    for figure in figures.values():
        if not MIN_FIGURE <= figure <= MAX_FIGURE:
            raise ValueError(f"a ratio is made of positive finite figures, got {figure}")
    return {round_: math.log(figure) for round_, figure in figures.items()}
