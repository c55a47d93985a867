"""Verdicts on the parts of a step, on ranks, and on a ratio beside its prediction from FLOPs."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Literal

from bench.statistics.p_values import ROUNDING
from bench.statistics.ratios import SMALLEST_EFFECT, Ratio

Bottleneck = Literal["input-bound", "compute-bound"]
Loading = Literal["enough", "too few", "too close to tell"]
Agreement = Literal["agree", "disagree", "inconclusive"]
Prediction = Literal["consistent with FLOPs", "not consistent with FLOPs", "cannot be told"]
MAX_WAIT_SHARE = 0.05  # of a step's time, for batches that are loaded ahead
MAX_AGREEMENT_MARGIN = math.log(1.1)  # beyond it a tenth of a ratio could be missing unseen
FLOPS_TOLERANCE = 0.08  # of a logarithm: what is left to elementwise work, memory and launches
RUNS_FOR_SLOW_RANK = 3
# Times the others' time for their own work, in most runs and in the median run.
SLOW_IN_MOST, SLOW_RANK = (
    1.03,
    1.05,
)
ENGINEERING_FACTOR = 2.0  # between two MFU
PHASES_TOLERANCE = 0.1  # relative, between the sum of the phases and the whole step


def bound_by(data_share: float, *, prefetches: bool) -> Bottleneck:
    """Say what a step waits for most, by the share of its time that goes to its data.

    Where data takes longer than all the rest, a loader that works in the background would still be waited for. Where
    one does work ahead, what a step spends on its data is waiting, and little of it is allowed.
    """
    return (
        "input-bound" if data_share > (MAX_WAIT_SHARE if prefetches else 0.5) else "compute-bound"
    )


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
    if (
        abs(log_difference) > margin
        and abs(log_difference) >= math.log1p(SMALLEST_EFFECT) - ROUNDING
    ):
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
    return (
        "not consistent with FLOPs"
        if abs(log_difference) - margin > FLOPS_TOLERANCE
        else "cannot be told"
    )


def unexplained_factor(measured: Ratio | None, predicted: float | None) -> float | None:
    """Return measured ratio / FLOP-predicted ratio where they differ by more than 8 %.

    None where they differ less, where the measured interval contains the prediction, or without an interval.
    """
    if measured is None or not predicted or measured.low is None or measured.high is None:
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
        factors = sorted(
            of_run[rank] / median([*of_run[:rank], *of_run[rank + 1 :]]) for of_run in work
        )
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
