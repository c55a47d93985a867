"""The one place where a verdict is made.

The unit of repetition is the run (a process), never the window: windows of one run share its luck. The interval
of a ratio is over runs on one machine in one hour; it says nothing of other machines, seeds or data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from statistics import fmean, stdev
from typing import Literal

from scipy import stats

Verdict = Literal["faster", "slower", "no difference", "inconclusive"]

ALPHA = 0.01  # a verdict of "faster" or "slower" needs a p at or under this
SMALLEST_EFFECT = 0.02  # and a ratio at least this far from 1
CONFIDENCE = 0.95
ROUNDING = 1e-9  # of a logarithm: 2 % is 2 % however it was computed
SMALLEST_FIGURE, LARGEST_FIGURE = 1e-30, 1e30  # beyond these a figure is a fault, not a measurement
MOST_DEALS = 200_000  # counted one by one; ten runs a side have 184,756


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times larger the second group's figure is, with its interval; None where it cannot be had."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    runs: tuple[int, int]
    verdict: Verdict


def ratio_of(base: Sequence[float], other: Sequence[float]) -> Ratio:
    """Compare two groups of runs by the means of their logarithms: the value is other / base.

    Interval: Student t on the logarithms with a pooled spread, n + m - 2 degrees of freedom (a percentile
    bootstrap of five runs covers 83 % where it says 95 %). p: unpaired permutation.
    Figures are rates: more is "faster", which is said where p, size and interval agree. For several ratios in one
    answer use `ratios_of`. Raises ValueError where a figure is not positive and finite.
    """
    a, b = _logarithms(base), _logarithms(other)
    difference = fmean(b) - fmean(a)
    if min(len(a), len(b)) < 2:  # noqa: PLR2004 - one run has no spread
        return Ratio(math.exp(difference), None, None, None, (len(a), len(b)), "inconclusive")
    freedom = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * stdev(a) ** 2 + (len(b) - 1) * stdev(b) ** 2) / freedom)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * pooled * math.sqrt(1 / len(a) + 1 / len(b))
    low, high = math.exp(difference - margin), math.exp(difference + margin)
    p = permutation_p(a, b)
    return Ratio(math.exp(difference), low, high, p, (len(a), len(b)), _verdict(difference, low, high, p))


def ratios_of(base: Sequence[float], others: Mapping[str, Sequence[float]]) -> dict[str, Ratio]:
    """Compare several groups with one base: `ratio_of` each, p and verdict adjusted by Holm's step-down.

    Intervals stay those of single ratios. A p of None (too few runs) is left out of the family.
    """
    ratios = {name: ratio_of(base, other) for name, other in others.items()}
    known = [(name, ratio.p) for name, ratio in ratios.items() if ratio.p is not None]
    adjusted = dict(zip((name for name, _ in known), holm([p for _, p in known]), strict=True))
    return {name: ratio if (p := adjusted.get(name)) is None else _with_p(ratio, p) for name, ratio in ratios.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number, in the order given.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6.
    """
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of all ways to deal the values into two hands of these sizes whose means lie at least as far apart.

    Exact up to ten a side; beyond, of as many deals drawn at random (seeded), the one seen counted among them.
    """
    values, size = [*a, *b], len(a)
    total = math.fsum(values)
    seen = abs(fmean(b) - fmean(a)) - ROUNDING * max(abs(value) for value in values)

    def as_far(hand: Sequence[float]) -> bool:
        dealt = math.fsum(hand)
        return abs(dealt / size - (total - dealt) / len(b)) >= seen

    deals = math.comb(len(values), size)
    if deals <= MOST_DEALS:
        return sum(as_far(hand) for hand in combinations(values, size)) / deals
    draw = Random(0)  # noqa: S311 - the same answer each time
    return (1 + sum(as_far(draw.sample(values, size)) for _ in range(MOST_DEALS))) / (1 + MOST_DEALS)


def fewest_rounds(num_ratios: int) -> int:
    """Return the smallest number of rounds, five or more, in which every one of the ratios can be called.

    n runs a side reach p = 2 / C(2n, n) at best; Holm multiplies the smallest of k by k. Five suffice for one
    ratio (0.008), six are needed for two to four.
    """
    rounds = 5
    while num_ratios * 2 / math.comb(2 * rounds, rounds) > ALPHA:
        rounds += 1
    return rounds


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def accuracy_interval(correct: Sequence[bool]) -> Interval:
    """Return the share of correct answers with Wilson's interval over the test items (one tower, one training run).

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    n, share = len(correct), fmean(correct)
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, min(share, centre - margin)), min(1.0, max(share, centre + margin)))


def paired_difference(base: Sequence[bool], other: Sequence[bool]) -> Interval:
    """Return by how much `other` is more often right than `base` on the same items, in the same order.

    Student t on the differences by item. The interval is over test items for two fixed towers; it is not over
    training seeds, so it can tell a tower from its untrained floor and cannot rank two methods.
    """
    if len(base) != len(other):
        raise ValueError(f"paired answers must be of the same items: {len(base)} and {len(other)}")
    differences = [int(b) - int(a) for a, b in zip(base, other, strict=True)]
    value = fmean(differences)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * stdev(differences)
    margin /= math.sqrt(len(differences))
    return Interval(value, value - margin, value + margin)


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean over training seeds with Student's t interval; ValueError under two seeds."""
    if len(values) < 2:  # noqa: PLR2004
        raise ValueError("an interval over seeds needs two seeds or more")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"an interval is made of finite figures, got {list(values)}")
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Interval(fmean(values), fmean(values) - margin, fmean(values) + margin)


def _logarithms(figures: Sequence[float]) -> list[float]:
    for figure in figures:
        if not SMALLEST_FIGURE <= figure <= LARGEST_FIGURE:
            raise ValueError(f"a ratio is made of positive finite figures, got {figure}")
    return [math.log(figure) for figure in figures]


def _verdict(difference: float, low: float, high: float, p: float) -> Verdict:
    smallest = math.log1p(SMALLEST_EFFECT) - ROUNDING
    if p <= ALPHA and abs(difference) >= smallest and not low <= 1 <= high:
        return "faster" if difference > 0 else "slower"
    if math.log(low) > -smallest and math.log(high) < smallest:
        return "no difference"
    return "inconclusive"


def _with_p(ratio: Ratio, p: float) -> Ratio:
    assert ratio.low is not None
    assert ratio.high is not None
    verdict = _verdict(math.log(ratio.value), ratio.low, ratio.high, p)
    return Ratio(ratio.value, ratio.low, ratio.high, p, ratio.runs, verdict)
