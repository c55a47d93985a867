"""Accuracies over training runs and test items, with their intervals; verdicts on their differences."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import nctdtr, stdtrit

from bench.statistics.p_values import (
    ROUNDING,
    adjust_p_values_holm,
    student_t_half_width,
    student_t_p_value,
)
from bench.statistics.ratios import ALPHA

K = TypeVar("K")
DifferenceVerdict = Literal["better", "not distinguishable", "worse", "no interval"]
Array = npt.NDArray[np.float64]
# Scores of one training's tower: for each test item 1 if it is right and 0 if not, or the difference of two towers; or
# one figure for all items.
ItemScores = Array | float
MIN_SEEDS_FOR_INTERVAL = 3  # training seeds; fewer give a mean without an interval
MIN_SEEDS_FOR_RANKING = 5  # training seeds that two methods have in common
POWER = 0.8  # probability with which so many repetitions show a difference
MOST_REPETITIONS = 100_000  # that are computed to tell a mean from 0


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """A mean over repetitions with its 95 % interval and p."""

    value: float
    low: float | None  # None: no interval
    high: float | None
    over: str  # number and unit of the repetitions, such as "5 seeds and 300 test images"
    p: float | None = None  # of the mean being 0, not adjusted for the number of estimates


def estimate_mean_over_seeds(scores_by_seed: Sequence[ItemScores]) -> MeanEstimate:
    """Estimate the mean score over training seeds and test items, with an interval.

    With fewer than three seeds the ends of the interval are None. Seeds and items are both taken as drawn at random, so
    that the interval covers other trainings and other test items. Trainings with different numbers of items have no
    interval.
    """
    reason = ""
    if len({np.size(scores) for scores in scores_by_seed}) > 1:
        reason = ", different test images"
    num_seeds = len(scores_by_seed)
    if reason or num_seeds < MIN_SEEDS_FOR_INTERVAL:
        mean = fmean(float(np.mean(scores)) for scores in scores_by_seed)
        return MeanEstimate(mean, None, None, f"{num_seeds} seeds{reason}, no interval")
    return _estimate_mean_of_runs(scores_by_seed, "seeds")


def estimate_mean_over_draws(
    draws_by_training: Mapping[K, Mapping[int, ItemScores]],
) -> MeanEstimate:
    """Estimate the mean score over draws of the labelled images.

    The interval of one training is over its draws and the test items; of several over the means of the trainings.
    """
    if len(draws_by_training) > 1:
        means = [sum(draws.values()) / len(draws) for draws in draws_by_training.values()]
        return estimate_mean_over_seeds(means)
    (draws,) = draws_by_training.values()
    scores_by_draw = list(draws.values())
    if len(scores_by_draw) == 1:
        mean = float(np.mean(scores_by_draw[0]))
        return MeanEstimate(mean, None, None, "one draw, no interval")
    return _estimate_mean_of_runs(scores_by_draw, "draws")


def estimate_difference_over_seeds(
    base: Mapping[K, ItemScores], other: Mapping[K, ItemScores]
) -> MeanEstimate | None:
    """Estimate the mean of other - base, both by seed, over their common seeds and items; None if these are too few."""
    differences = list_paired_differences(base, other)
    if len(differences) < MIN_SEEDS_FOR_RANKING:
        return None
    return estimate_mean_over_seeds(differences)


def list_paired_differences(
    base: Mapping[K, ItemScores], other: Mapping[K, ItemScores]
) -> list[ItemScores]:
    """Return other - base of each seed that both have."""
    return [np.subtract(other[seed], base[seed]) for seed in base if seed in other]


def paired_differences_needed(mean: float, standard_deviation: float) -> int:
    """Return how many differences of this mean and standard deviation a paired t test needs to tell their mean from 0.

    That is at p ≤ `ALPHA`, with the probability `POWER`; at most `MOST_REPETITIONS`.
    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences": power by the non-central t.
    """
    if not standard_deviation:
        return 2 if mean else MOST_REPETITIONS

    def power(repetitions: int) -> float:
        end = stdtrit(repetitions - 1, 1 - ALPHA / 2)
        noncentrality = abs(mean) / standard_deviation * math.sqrt(repetitions)
        return 1 - float(nctdtr(repetitions - 1, noncentrality, end))

    numbers = range(2, MOST_REPETITIONS)
    return 2 + bisect_left(numbers, POWER, key=power)


@dataclass(frozen=True, slots=True)
class JudgedAccuracyDifference:
    """A difference of accuracies with its verdict; `p` is adjusted for all claims of its page."""

    difference: MeanEstimate
    p: float | None
    verdict: DifferenceVerdict


def judge_accuracy_differences(
    differences: Mapping[K, MeanEstimate],
) -> dict[K, JudgedAccuracyDifference]:
    """Judge all differences of accuracies of a page as one family.

    One is better or worse where p, adjusted by Holm's step-down for the number of differences, is at most `ALPHA`.
    """
    adjusted = adjust_p_values_holm({name: estimate.p for name, estimate in differences.items()})
    judged = {}
    for name, difference in differences.items():
        p = adjusted.get(name)
        verdict: DifferenceVerdict = "no interval"
        if p is not None:
            verdict = "better" if difference.value > 0 else "worse"
            if p > ALPHA:
                verdict = "not distinguishable"
        judged[name] = JudgedAccuracyDifference(difference, p, verdict)
    return judged


def _estimate_mean_of_runs(scores_by_run: Sequence[ItemScores], run_noun: str) -> MeanEstimate:
    """Estimate the mean over runs and test items, with Student's t interval; `run_noun` is "seeds" or "draws"."""
    table = np.array([np.atleast_1d(scores) for scores in scores_by_run], np.float64)
    num_runs, num_items = table.shape
    over = f"{num_runs} {run_noun}"
    if num_items > 1:
        over += f" and {num_items:,} test images"
    mean = float(table.mean())
    variance, degrees_of_freedom = _variance_of_mean_and_degrees_of_freedom(table)
    if variance <= (ROUNDING * mean) ** 2:  # of equal figures: rounding
        return MeanEstimate(mean, mean, mean, over, float(not mean))
    error = math.sqrt(variance)
    margin = student_t_half_width(error, degrees_of_freedom)
    p = student_t_p_value(mean, error, degrees_of_freedom)
    return MeanEstimate(mean, mean - margin, mean + margin, over, p)


def _variance_of_mean_and_degrees_of_freedom(table: Array) -> tuple[float, float]:
    """Return the variance of the mean of a (runs, items) table, and its degrees of freedom.

    Runs and items are both drawn at random. The variance of the mean is the sum of that of the runs, of the items and
    of the rest, of which a negative estimate counts as 0; the degrees of freedom are Satterthwaite's. One item gives
    Student's t over the runs.
    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics 2; the
    crossed random effects are those of Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1.
    """
    num_runs, num_items = table.shape
    run_means = table.mean(axis=1)
    item_means = table.mean(axis=0)
    run_degrees = num_runs - 1.0
    run_variance = float(run_means.var(ddof=1)) / num_runs
    if num_items == 1:
        return run_variance, run_degrees
    item_degrees = num_items - 1.0
    item_variance = float(item_means.var(ddof=1)) / num_items
    rest_degrees = run_degrees * item_degrees
    mean = float(table.mean())
    rest = table - run_means[:, None] - item_means + mean
    rest_squares = float((rest**2).sum())
    rest_variance = rest_squares / (rest_degrees * table.size)
    # The rest is part of the variance that the runs show, and of the variance that the items show.
    parts = []
    if run_variance > rest_variance:
        parts.append((run_variance, run_degrees))
    if item_variance > rest_variance:
        parts.append((item_variance, item_degrees))
    num_surplus_rests = len(parts) - 1
    sum_of_parts = sum(part for part, _ in parts)
    variance = sum_of_parts - rest_variance * num_surplus_rests
    if num_surplus_rests:
        parts.append((rest_variance, rest_degrees))
    spread = 0.0
    for part, degrees in parts:
        spread += part**2 / degrees
    degrees_of_freedom = variance**2 / spread if spread else 1.0
    return variance, degrees_of_freedom
