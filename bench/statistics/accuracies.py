"""Accuracies over training runs, test items and tasks, with their intervals; verdicts on their differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import nctdtrinc, stdtrit

from bench.statistics.p_values import (
    CONFIDENCE,
    ROUNDING,
    holm,
    student_t_margin,
    student_t_p,
)
from bench.statistics.ratios import ALPHA

K = TypeVar("K")
Difference = Literal["better", "not distinguishable", "worse", "no interval"]
Array = npt.NDArray[np.float64]
Answers = Array | float  # by test item, or one figure for all
SEEDS_FOR_INTERVAL = 3  # training seeds; fewer give a mean without an interval
SEEDS_FOR_RANKING = 5  # training seeds that two methods have in common
TASKS_FOR_INTERVAL = 3  # tasks on different images; fewer give a mean without an interval
# The probability with which the smallest difference that could have been shown is shown.
POWER = 0.8


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
    reason = ""
    if len({np.size(row) for row in rows}) > 1:
        reason = ", different test images"
    if reason or len(rows) < SEEDS_FOR_INTERVAL:
        mean = fmean(float(np.mean(row)) for row in rows)
        return Estimate(mean, None, None, f"{len(rows)} seeds{reason}, no interval")
    return _estimate_two_levels(rows, "seeds")


def estimate_over_draws(runs: Mapping[K, Mapping[int, Answers]]) -> Estimate:
    """Estimate a mean over draws of the labelled images (one training), or over the trainings' means (several)."""
    if len(runs) > 1:
        means = [sum(draws.values()) / len(draws) for draws in runs.values()]
        return estimate_over_seeds(means)
    (draws,) = runs.values()
    answers = list(draws.values())
    if len(answers) == 1:
        mean = float(np.mean(answers[0]))
        return Estimate(mean, None, None, "one draw, no interval")
    return _estimate_two_levels(answers, "draws")


def estimate_paired_over_seeds(
    base: Mapping[K, Answers], other: Mapping[K, Answers]
) -> Estimate | None:
    """Estimate other - base over the seeds and items that both have; None under five seeds, which rank nothing."""
    differences = [np.subtract(other[seed], base[seed]) for seed in base if seed in other]
    if len(differences) < SEEDS_FOR_RANKING:
        return None
    return estimate_over_seeds(differences)


@dataclass(frozen=True, slots=True)
class MeanOverTasks:
    """A mean over tasks; `smallest` is the size from which its interval leaves out 0 with the probability `POWER`.

    That is for as many tasks and trainings with the spread of these; None without an interval.
    """

    mean: Estimate
    smallest: float | None


def estimate_over_tasks(figures_by_training: Sequence[Sequence[float]]) -> MeanOverTasks:
    """Estimate a mean over tasks and training seeds, which are both taken as drawn at random, independently.

    There is a figure for each task of each training's tower. From three seeds on the interval covers other tasks and
    other trainings; with fewer it covers other tasks for these trainings. Under three tasks there is none.
    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences": power by the non-central t; for the
    variance see `_mean_of_two_levels`.
    """
    table = np.array(figures_by_training, np.float64)
    seeds, tasks = table.shape
    if tasks < TASKS_FOR_INTERVAL:
        mean_of_few = float(table.mean())
        estimate = Estimate(mean_of_few, None, None, f"{tasks} tasks, no interval")
        return MeanOverTasks(estimate, None)
    over = f"{tasks} tasks and {seeds} seeds"
    if seeds < SEEDS_FOR_INTERVAL:
        table = table.mean(axis=0)[:, None]
        over = f"{tasks} tasks, of these trainings"
    mean, variance, degrees_of_freedom = _mean_of_two_levels(table)
    estimate = _to_estimate(mean, variance, degrees_of_freedom, over)
    end = float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
    noncentrality = float(nctdtrinc(degrees_of_freedom, 1 - POWER, end))
    return MeanOverTasks(estimate, noncentrality * math.sqrt(variance))


@dataclass(frozen=True, slots=True)
class JudgedAccuracyDifference:
    """A difference of accuracies with its verdict; `p` is adjusted for all claims of its page."""

    difference: Estimate
    p: float | None
    verdict: Difference


def judge_accuracy_differences(
    differences: Mapping[K, Estimate],
) -> dict[K, JudgedAccuracyDifference]:
    """Judge all differences of accuracies of a page as one family.

    One is better or worse where p, adjusted by Holm's step-down for the number of differences, is at most `ALPHA`.
    """
    known = {name: estimate.p for name, estimate in differences.items() if estimate.p is not None}
    adjusted_p_values = holm(list(known.values()))
    adjusted = dict(zip(known, adjusted_p_values, strict=True))
    judged = {}
    for name, difference in differences.items():
        p = adjusted.get(name)
        verdict: Difference = "no interval"
        if p is not None:
            verdict = "better" if difference.value > 0 else "worse"
            if p > ALPHA:
                verdict = "not distinguishable"
        judged[name] = JudgedAccuracyDifference(difference, p, verdict)
    return judged


def _estimate_two_levels(rows: Sequence[Answers], unit: str) -> Estimate:
    """Estimate the mean of a table with a row for each run, whose runs and items are both drawn at random."""
    table = np.array([np.atleast_1d(row) for row in rows], np.float64)
    runs, items = table.shape
    over = f"{runs} {unit}"
    if items > 1:
        over += f" and {items:,} test images"
    return _to_estimate(*_mean_of_two_levels(table), over)


def _to_estimate(mean: float, variance: float, degrees_of_freedom: float, over: str) -> Estimate:
    """Return a mean with Student's t interval and p, by the mean's variance and its degrees of freedom."""
    if variance <= (ROUNDING * mean) ** 2:  # of equal figures: rounding
        return Estimate(mean, mean, mean, over, float(not mean))
    error = math.sqrt(variance)
    margin = student_t_margin(error, degrees_of_freedom)
    p = student_t_p(mean, error, degrees_of_freedom)
    return Estimate(mean, mean - margin, mean + margin, over, p)


def _mean_of_two_levels(table: Array) -> tuple[float, float, float]:
    """Return the mean of a (runs, items) table, the mean's variance and its degrees of freedom.

    Runs and items are both drawn at random. The variance of the mean is the sum of that of the runs, of the items and
    of the rest, of which a negative estimate counts as 0; the degrees of freedom are Satterthwaite's. One item gives
    Student's t over the runs.
    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics 2; the
    crossed random effects are those of Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1.
    """
    num_runs, num_items = table.shape
    run_means = table.mean(axis=1)
    item_means = table.mean(axis=0)
    mean = float(table.mean())
    run_degrees = num_runs - 1.0
    run_variance = float(run_means.var(ddof=1)) / num_runs
    if num_items == 1:
        return mean, run_variance, run_degrees
    item_degrees = num_items - 1.0
    item_variance = float(item_means.var(ddof=1)) / num_items
    rest_degrees = run_degrees * item_degrees
    rest = table - run_means[:, None] - item_means + mean
    rest_squares = float((rest**2).sum())
    rest_variance = rest_squares / (rest_degrees * num_runs * num_items)
    # The rest is part of the variance that the runs show, and of the variance that the items show.
    parts = []
    if run_variance > rest_variance:
        parts.append((run_variance, run_degrees))
    if item_variance > rest_variance:
        parts.append((item_variance, item_degrees))
    variance = sum(part for part, _ in parts) - rest_variance * (len(parts) - 1)
    if len(parts) != 1:
        parts.append((rest_variance, rest_degrees))
    spread = sum(part**2 / degrees for part, degrees in parts)
    degrees_of_freedom = variance**2 / spread if spread else 1.0
    return mean, variance, degrees_of_freedom
