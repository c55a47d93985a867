"""The one place where a verdict is made.

The unit of repetition of a speed is the run (a process), never the window: windows of one run are correlated. The
interval of a ratio is over runs on one machine in one hour; it says nothing of other machines, seeds or data. The units
of an accuracy are the training run and the test item.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean, median, stdev
from types import MappingProxyType
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import nctdtrinc, ndtri, stdtr, stdtrit

from bench.disturbance import RoundsMean, mean_log_over_rounds
from bench.formats import join_words
from bench.p_values import ROUNDING, holm, permutation_p, sign_flip_p, student_t_p

K = TypeVar("K")
Verdict = Literal["faster", "slower", "no difference", "inconclusive", "disturbed"]
Bottleneck = Literal["input-bound", "compute-bound"]
Loading = Literal["enough", "too few", "too close to tell"]
Agreement = Literal["agree", "disagree", "inconclusive"]
Prediction = Literal["consistent with FLOPs", "not consistent with FLOPs", "cannot be told"]
ChangeKind = Literal["confirmed", "suspected", "counted"]
ClaimVerdict = Literal["reproduced", "reproduced only with", "not reproduced", "not testable here because"]
Difference = Literal["better", "not distinguishable", "worse", "no interval"]
Answers = npt.NDArray[np.float64] | float  # by test item, or one figure for all
Rounds = Mapping[int, float]  # the figure of one run a round, by the round's number

NO_SLOWNESS: Mapping[str, tuple[Rounds, Rounds]] = MappingProxyType({})

ALPHA = 0.01  # a verdict of "faster", "slower", "better" or "worse" needs an adjusted p at or under this
SMALLEST_EFFECT = 0.02  # and one on speed a ratio at least this far from 1
CONFIDENCE = 0.95
MIN_FIGURE, MAX_FIGURE = 1e-40, 1e40  # beyond these a figure is a fault, not a measurement
MIN_ROUNDS = 5
MAX_LOG_SLOWDOWN = math.log(3)  # left in a ratio; beyond it no widening is known to suffice
MIN_PAIRED_ROUNDS = 10  # rounds; under these a sign flip finds less than a permutation, unless the machine drifts
MAX_WAIT_SHARE = 0.05  # of a step's time, for batches that are loaded ahead
MAX_AGREEMENT_MARGIN = math.log(1.1)  # beyond it a tenth of a ratio could be missing unseen
FLOPS_TOLERANCE = 0.08  # of a logarithm: what is left to elementwise work, memory and launches
CLAIM_TOLERANCE = math.log(1.1)  # of the logarithm of a published ratio, which has two digits
CLAIM_ACCURACY_TOLERANCE = 1.0  # points of accuracy
RUNS_FOR_SLOW_RANK = 3
SLOW_IN_MOST, SLOW_RANK = 1.03, 1.05  # times the others' time for their own work, in most runs and in the median run
ENGINEERING_FACTOR = 2.0  # between two MFU
PHASES_TOLERANCE = 0.1  # relative, between the sum of the phases and the whole step
FEWEST_SUSPECTED = 3  # processes on each side of a suspected change
# Of a change between commits: processes on each side, relative size, upper bound of p (Mann-Whitney).
CHANGE_LIMITS: Mapping[ChangeKind, tuple[int, float, float]] = {
    "confirmed": (2, SMALLEST_EFFECT, math.inf),  # one process alone may be an accident; step detection replaces p
    "suspected": (FEWEST_SUSPECTED, 0.03, 0.001),
}
SEEDS_FOR_INTERVAL = 3  # training seeds; fewer give a mean without an interval
SEEDS_FOR_RANKING = 5  # training seeds that two methods have in common
TASKS_FOR_INTERVAL = 3  # tasks on different images; fewer give a mean without an interval
POWER = 0.8  # the probability with which the smallest difference that could have been shown is shown


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


def bound_by(data_share: float, *, prefetches: bool) -> Bottleneck:
    """Say what a step waits for most, by the share of its time that goes to its data.

    Where data takes longer than all the rest, a loader that works in the background would still be waited for. Where
    one does work ahead, what a step spends on its data is waiting, and little of it is allowed.
    """
    return "input-bound" if data_share > (MAX_WAIT_SHARE if prefetches else 0.5) else "compute-bound"


def judge_loader_cores(min_cores: float, max_cores: float, spare: int) -> Loading:
    """Judge whether `spare` cores suffice where `min_cores` to `max_cores` are needed, the ends of a 95 % interval."""
    if max_cores <= spare:
        return "enough"
    return "too few" if min_cores > spare else "too close to tell"


def judge_agreement(log_difference: float, margin: float | None) -> Agreement:
    """Judge two logarithms of one ratio by their difference, with half of its interval (None: there is none).

    They disagree where the interval leaves out 0 and the difference is 2 % or more. They agree within
    `max_relative_difference` where that is under 10 %: the word alone says no more than that.
    """
    if margin is None:
        return "inconclusive"
    if abs(log_difference) > margin and abs(log_difference) >= math.log1p(SMALLEST_EFFECT) - ROUNDING:
        return "disagree"
    return "agree" if abs(log_difference) + margin <= MAX_AGREEMENT_MARGIN else "inconclusive"


def max_relative_difference(log_difference: float, margin: float) -> float:
    """Return by what share two figures differ at the interval's far end, of their logarithms' difference."""
    return math.expm1(abs(log_difference) + margin)


def judge_flops_prediction(log_difference: float, margin: float | None) -> Prediction:
    """Judge ln(measured ratio / that of the FLOPs), with half of its interval: within 0.08, beyond it, or neither."""
    if margin is None:
        return "cannot be told"
    if abs(log_difference) + margin <= FLOPS_TOLERANCE:
        return "consistent with FLOPs"
    return "not consistent with FLOPs" if abs(log_difference) - margin > FLOPS_TOLERANCE else "cannot be told"


def unexplained_factor(measured: Ratio | None, predicted: float | None) -> float | None:
    """Return measured ratio / FLOP-predicted ratio where they differ by more than 8 %.

    None where they differ less, where the measured interval contains the prediction, without an interval, or where the
    machine was disturbed.
    """
    if measured is None or not predicted or measured.low is None or measured.high is None:
        return None
    if measured.verdict == "disturbed":
        return None
    factor = measured.value / predicted
    is_within = measured.low <= predicted <= measured.high
    return None if is_within or abs(math.log(factor)) <= FLOPS_TOLERANCE else factor


def find_slow_rank(work: Sequence[Sequence[float]]) -> tuple[int, float] | None:
    """Return the slowest rank, and how many times as long as the others' its work takes; None if none is slow.

    `work` has the time of every rank's own work in each of at least `RUNS_FOR_SLOW_RANK` runs. A rank is slow if its
    work takes more than `SLOW_RANK` times the median of the others in the median run, and more than `SLOW_IN_MOST`
    times in at least three quarters of the runs.
    """
    found = list[tuple[float, int]]()
    for rank in range(len(work[0]) if len(work) >= RUNS_FOR_SLOW_RANK else 0):
        factors = sorted(of_run[rank] / median([*of_run[:rank], *of_run[rank + 1 :]]) for of_run in work)
        if factors[len(factors) // 4] > SLOW_IN_MOST and (factor := median(factors)) > SLOW_RANK:
            found.append((factor, rank))
    if not found:
        return None
    factor, rank = max(found)
    return rank, factor


def is_engineering_gap(least_mfu: float, largest_mfu: float) -> bool:
    """Return whether MFU differ so much that a ratio compares implementations and not methods."""
    return largest_mfu >= ENGINEERING_FACTOR * least_mfu


def phases_add_up(sum_over_step: float) -> bool:
    """Return whether the phases of a step sum to the step timed without a split."""
    return abs(sum_over_step - 1) <= PHASES_TOLERANCE


def is_change(kind: ChangeKind, old: float, new: float, processes: tuple[int, int], p: float) -> bool:
    """Judge a jump of a series between two commits; `processes` are those before and after it."""
    fewest, smallest, below_p = CHANGE_LIMITS[kind]
    return min(processes) >= fewest and abs(math.log(new / old)) >= math.log1p(smallest) and p < below_p


def log_std(runs: Rounds) -> float | None:
    """Return the standard deviation of the runs' logarithms, about their relative spread; None under two runs."""
    return stdev(_logarithms(runs).values()) if len(runs) > 1 else None


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def accuracy_interval(correct: Sequence[float]) -> Interval:
    """Return the share of correct answers with Wilson's interval over the test items (one tower, one training run).

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    """
    n, share = len(correct), fmean(correct)
    z = float(ndtri((1 + CONFIDENCE) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, min(share, centre - margin)), min(1.0, max(share, centre + margin)))


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with Student's t interval; ValueError under two values, or for one that is not finite.

    Of the differences by test item of two towers the interval holds for these towers: it can tell one from its
    random-init baseline and cannot rank two methods.
    """
    if len(values) < 2:  # noqa: PLR2004
        raise ValueError("an interval needs two values or more")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"an interval is made of finite figures, got {list(values)}")
    mean, degrees = fmean(values), len(values) - 1
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / degrees / len(values))
    margin = _student_t_quantile(degrees) * error
    return Interval(mean, mean - margin, mean + margin)


def geometric_mean_interval(values: Sequence[float]) -> Interval | None:
    """Return the geometric mean of positive values with Student's t interval of their logarithms; None under two."""
    if len(values) < 2:  # noqa: PLR2004 - one run has no spread
        return None
    logs = mean_interval([math.log(value) for value in values])
    return Interval(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


# The rule of `judge_claim` in words.
CLAIM_RULE = (
    (
        "The controlled pair differs in the method alone, the published pair in all settings of the released recipes. "
        "A pair agrees with the figure if its whole 95 % interval lies within 10 % of it (one point of accuracy), and "
        "differs from it if the whole interval lies beyond. For a figure that is a lower bound there is no margin."
    ),
    (
        "Reproduced: the controlled pair agrees. A claim without a controlled pair is reproduced as published if the "
        "published pair agrees."
    ),
    (
        "Reproduced only with a cause: the published pair agrees and the controlled pair differs. To find the causes, "
        "the measured effects of the settings are removed from the published pair's ratio, the largest first, until it "
        "is more than 10 % below the figure."
    ),
    (
        "Not reproduced: the published pair differs, and still differs after the modelled effect of communication is "
        "added where its runs had one GPU. If the controlled pair was measured, it differs, too. Where the authors' "
        "code can be timed, only its runs reject the claim."
    ),
    "Not testable here: anything else, such as a pair that was not measured, or an interval that is too wide.",
)


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """A published figure, on an additive scale: the logarithm of a ratio, or points of accuracy."""

    value: float
    tolerance: float = CLAIM_TOLERANCE
    is_lower_bound: bool = False  # the paper says "more than this"


@dataclass(frozen=True, slots=True)
class ClaimJudgement:
    """The verdict on a claim; `detail` is the cause or the reason that completes it, else empty."""

    verdict: ClaimVerdict
    detail: str = ""

    @property
    def verdict_clause(self) -> str:
        """The verdict as a clause."""
        return f"{self.verdict} {self.detail}".strip()


def judge_claim(
    published: PublishedFigure,
    controlled: Interval | None,
    as_published: Interval | None,
    causes: Mapping[str, float],
    unmeasured: tuple[float, float] = (0.0, 0.0),
) -> ClaimJudgement:
    """Judge a published figure by two measured pairs of experiments.

    The rule in words is `CLAIM_RULE`, whose points are tried in their order. Everything is on the additive scale of
    `PublishedFigure`: intervals, the effects of other settings than the method (`causes`), and the least and
    largest predicted effect of what the records lack (`unmeasured`).
    """
    by_method, by_recipe = (_agrees_with_published(one, published) for one in (controlled, as_published))
    if by_method:
        return ClaimJudgement("reproduced")
    if by_recipe and controlled is not None and as_published is not None and by_method is False:
        return ClaimJudgement("reproduced only with", _necessary_causes(published, as_published.value, causes))
    if by_recipe is False and as_published is not None and (controlled is None or by_method is False):
        least, largest = unmeasured
        moved = Interval(as_published.value, as_published.low + least, as_published.high + largest)
        if _agrees_with_published(moved, published) is False:
            return ClaimJudgement("not reproduced")
        return ClaimJudgement("not testable here because", "what was not measured may make the difference")
    return ClaimJudgement("not testable here because", _why_undecided(controlled, as_published, by_recipe))


def _agrees_with_published(found: Interval | None, published: PublishedFigure) -> bool | None:
    """Return whether an interval lies within the tolerance of a figure; None if it cannot be told."""
    if found is None:
        return None
    low, high = found.low - published.value, found.high - published.value
    if published.is_lower_bound:
        return True if low > 0 else False if high <= 0 else None
    if max(-low, high) <= published.tolerance:
        return True
    return False if low > published.tolerance or high < -published.tolerance else None


def _necessary_causes(published: PublishedFigure, measured: float, causes: Mapping[str, float]) -> str:
    """Name the causes of a ratio, the largest first, without which it is out of tolerance."""
    named, rest = list[str](), measured
    for cause, effect in sorted(causes.items(), key=lambda item: -item[1]):
        if effect <= 0 or rest < published.value - published.tolerance:
            break
        named.append(cause)
        rest -= effect
    return join_words(named) or "the recipes' other settings"


def _why_undecided(controlled: Interval | None, as_published: Interval | None, by_recipe: bool | None) -> str:
    if controlled is None and as_published is None:
        return "neither pair was measured"
    if as_published is None:
        return "the published pair was not measured"
    if by_recipe is None:
        return "the interval of the published pair is too wide"
    if controlled is None:
        return "the controlled pair was not measured"
    return "the interval of the controlled pair is too wide"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval, None where there is none; `over` names the unit of repetition."""

    value: float
    low: float | None
    high: float | None
    over: str
    p: float | None = None  # of the mean being 0, not adjusted for the number of estimates


def estimate_over_seeds(rows: Sequence[Answers]) -> Estimate:
    """Estimate a mean over training seeds, with an interval from three seeds on.

    A row is what one training's tower answered: a figure for each test item (1 where it is right, or a difference of
    two towers), or one figure for all. Rows and items are both taken as drawn at random, so that the interval covers
    other trainings and other test items. Trainings with different numbers of items have no interval.
    """
    if len({np.size(row) for row in rows}) > 1:
        return Estimate(fmean(map(np.mean, rows)), None, None, f"{len(rows)} seeds, different test images, no interval")
    if len(rows) < SEEDS_FOR_INTERVAL:
        return Estimate(fmean(map(np.mean, rows)), None, None, f"{len(rows)} seeds, no interval")
    return _estimate_two_levels(rows, "seeds")


def estimate_over_draws(runs: Mapping[K, Mapping[int, Answers]]) -> Estimate:
    """Estimate a mean over draws of the labelled images (one training), or over the trainings' means (several)."""
    if len(runs) > 1:
        return estimate_over_seeds([sum(draws.values()) / len(draws) for draws in runs.values()])
    (draws,) = runs.values()
    if len(draws) == 1:
        return Estimate(fmean(map(np.mean, draws.values())), None, None, "one draw, no interval")
    return _estimate_two_levels([*draws.values()], "draws")


def estimate_paired_over_seeds(base: Mapping[K, Answers], other: Mapping[K, Answers]) -> Estimate | None:
    """Estimate other - base over the seeds and items that both have; None under five seeds, which rank nothing."""
    differences = [np.subtract(other[seed], base[seed]) for seed in base if seed in other]
    return estimate_over_seeds(differences) if len(differences) >= SEEDS_FOR_RANKING else None


@dataclass(frozen=True, slots=True)
class MeanOverTasks:
    """A mean over tasks; `smallest` is the size from which its interval leaves out 0 with the probability `POWER`.

    That is for as many tasks and trainings with the spread of these; None without an interval.
    """

    mean: Estimate
    smallest: float | None


def estimate_over_tasks(rows: Sequence[Sequence[float]]) -> MeanOverTasks:
    """Estimate a mean over tasks and training seeds, which are both taken as drawn at random, independently.

    A row has a figure for each task, of the tower of one training. From three seeds on the interval covers other tasks
    and other trainings; with fewer it covers other tasks for these trainings. Under three tasks there is none.
    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences": power by the non-central t; for the
    variance see `_mean_of_two_levels`.
    """
    table = np.array(rows, np.float64)
    seeds, tasks = table.shape
    if tasks < TASKS_FOR_INTERVAL:
        return MeanOverTasks(Estimate(float(table.mean()), None, None, f"{tasks} tasks, no interval"), None)
    over = f"{tasks} tasks and {seeds} seeds"
    if seeds < SEEDS_FOR_INTERVAL:
        table, over = table.mean(axis=0)[:, None], f"{tasks} tasks, of these trainings"
    mean, variance, degrees_of_freedom = _mean_of_two_levels(table)
    estimate = _to_estimate(mean, variance, degrees_of_freedom, over)
    end = float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
    return MeanOverTasks(estimate, float(nctdtrinc(degrees_of_freedom, 1 - POWER, end)) * math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class JudgedAccuracyDifference:
    """A difference of accuracies with its verdict; `p` is adjusted for all claims of its page."""

    difference: Estimate
    p: float | None
    verdict: Difference


def judge_accuracy_differences(found: Mapping[K, Estimate]) -> dict[K, JudgedAccuracyDifference]:
    """Judge all differences of accuracies of a page as one family.

    One is better or worse where p, adjusted by Holm's step-down for the number of differences, is at most `ALPHA`.
    """
    known = {name: estimate.p for name, estimate in found.items() if estimate.p is not None}
    adjusted = dict(zip(known, holm([*known.values()]), strict=True))
    return {name: _judge_difference(estimate, adjusted.get(name)) for name, estimate in found.items()}


def _judge_difference(difference: Estimate, p: float | None) -> JudgedAccuracyDifference:
    if p is None:
        return JudgedAccuracyDifference(difference, p, "no interval")
    called: Difference = "better" if difference.value > 0 else "worse"
    return JudgedAccuracyDifference(difference, p, called if p <= ALPHA else "not distinguishable")


def _estimate_two_levels(rows: Sequence[Answers], unit: str) -> Estimate:
    """Estimate the mean of a table with a row for each run, whose runs and items are both drawn at random."""
    table = np.array([np.atleast_1d(row) for row in rows], np.float64)
    runs, items = table.shape
    over = f"{runs} {unit}" + (f" and {items:,} test images" if items > 1 else "")
    return _to_estimate(*_mean_of_two_levels(table), over)


def _to_estimate(mean: float, variance: float, degrees_of_freedom: float, over: str) -> Estimate:
    """Return a mean with Student's t interval and p, by the mean's variance and its degrees of freedom."""
    if variance <= (ROUNDING * mean) ** 2:  # of equal figures: rounding
        return Estimate(mean, mean, mean, over, float(not mean))
    margin = float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(variance)
    p = 2 * float(stdtr(degrees_of_freedom, -abs(mean) / math.sqrt(variance)))
    return Estimate(mean, mean - margin, mean + margin, over, p)


def _mean_of_two_levels(table: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of a (runs, items) table, the mean's variance and its degrees of freedom.

    Runs and items are both drawn at random. The variance of the mean is the sum of that of the runs, of the items and
    of the rest, of which a negative estimate counts as 0; the degrees of freedom are Satterthwaite's. One item gives
    Student's t over the runs.
    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics 2; the
    crossed random effects are those of Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1.
    """
    runs, items = table.shape
    mean, of_runs = float(table.mean()), table.mean(axis=1)
    variance, degrees_of_freedom = float(of_runs.var(ddof=1)) / runs, runs - 1.0
    if items > 1:
        of_items = table.mean(axis=0)
        rest = float(((table - of_runs[:, None] - of_items + mean) ** 2).sum())
        variance, degrees_of_freedom = _variance_of_mean(
            (variance, runs - 1),
            (float(of_items.var(ddof=1)) / items, items - 1),
            (rest / ((runs - 1) * (items - 1) * runs * items), (runs - 1) * (items - 1)),
        )
    return mean, variance, degrees_of_freedom


def _variance_of_mean(
    runs: tuple[float, int], items: tuple[float, int], rest: tuple[float, int]
) -> tuple[float, float]:
    """Return the variance of a mean and its degrees of freedom.

    The arguments are (variance, degrees of freedom) of the mean as the runs alone show it, as the items alone show it,
    and as what neither explains shows it, which is part of both.
    """
    above = [one for one in (runs, items) if one[0] > rest[0]]
    parts = above if len(above) == 1 else [*above, rest]
    variance = sum(part for part, _ in above) - rest[0] * (len(above) - 1)
    spread = sum(part**2 / degrees_of_freedom for part, degrees_of_freedom in parts)
    return variance, variance**2 / spread if spread else 1.0


@lru_cache(maxsize=64)
def _student_t_quantile(degrees_of_freedom: int) -> float:
    """Return Student's t at which the interval ends."""
    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))


def _logarithms(figures: Rounds) -> dict[int, float]:
    for figure in figures.values():
        if not MIN_FIGURE <= figure <= MAX_FIGURE:
            raise ValueError(f"a ratio is made of positive finite figures, got {figure}")
    return {round_: math.log(figure) for round_, figure in figures.items()}
