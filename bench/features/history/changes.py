"""Changes of a series over commits: steps that asv detects, and counters that differ."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bench.statistics.ratios import SMALLEST_EFFECT
from bench.tables.formats import format_quantity
from reports.series import Series

MIN_PROCESSES = 2  # on each side of a step: a single process may be an accident
MISSING = "charts over commits need asv: python -m pip install -e '.[history]'"


@dataclass(frozen=True, slots=True)
class Change:
    """A jump between two successive commits of a series."""

    series: Series
    at: int  # index of the first point after it
    old: float  # median of the processes before it, back to the change before
    new: float
    num_processes: tuple[int, int]  # before and after it, up to the adjacent changes

    @property
    def ratio(self) -> float | None:
        """The new level over the old one; None for an old level of 0."""
        return self.new / self.old if self.old else None

    @property
    def span(self) -> str:
        """The commits on both sides; the cause is a commit after the first one, up to and including the second."""
        return f"{self.series.points[self.at - 1].commit.short} … {self.series.points[self.at].commit.short}"

    @property
    def is_worse(self) -> bool:
        """Whether the change is for the worse; every change of a counter without a better direction is."""
        better = self.series.metric.better
        return better == "same" or (self.new > self.old) == (better == "less")

    def describe(self) -> str:
        """Return the series, the levels and the commits in one line."""
        metric = self.series.metric
        old = format_quantity(self.old, metric.unit)
        new = format_quantity(self.new, metric.unit)
        times = f" ({self.ratio:.2f} times)" if self.ratio is not None else ""
        verdict = "worse" if self.is_worse else "better"
        return f"{verdict}: {self.series.benchmark.name}, {metric.name}: {old} to {new}{times}, {self.span}"


def find_changes(series: Series) -> list[Change]:
    """Return the changes of a series, oldest first. ValueError if asv is missing or a time is not positive."""
    return _counter_changes(series) if series.metric.is_counter else _step_changes(series)


def _counter_changes(series: Series) -> list[Change]:
    """Return where a counter differs. A counter that varies within a commit is ignored."""
    changes = []
    for at, (before, after) in enumerate(pairwise(series.points), start=1):
        is_constant = len(set(before.runs)) == 1 and len(set(after.runs)) == 1
        if is_constant and before.value != after.value:
            num_processes = (len(before.runs), len(after.runs))
            changes.append(Change(series, at, before.value, after.value, num_processes))
    return changes


def _step_changes(series: Series) -> list[Change]:
    """Return the steps of 2 % or more in the medians of commits."""
    runs_of_point: list[list[float]] = [[] for _ in series.points]
    for value, at in zip(*series.processes(), strict=True):
        if value <= 0:
            raise ValueError(
                f"{series.benchmark.name}: {series.metric.name} must be positive, got {value}"
            )
        runs_of_point[at].append(value)
    edges = [0, *_detect_steps([median(runs) for runs in runs_of_point]), len(series.points)]
    changes = []
    for first, at, end in zip(edges, edges[1:], edges[2:], strict=False):
        before = [run for runs in runs_of_point[first:at] for run in runs]
        after = [run for runs in runs_of_point[at:end] for run in runs]
        change = Change(series, at, median(before), median(after), (len(before), len(after)))
        is_large = abs(math.log(change.new / change.old)) >= math.log1p(SMALLEST_EFFECT)
        if is_large and min(change.num_processes) >= MIN_PROCESSES:
            changes.append(change)
    return changes


def _detect_steps(values: Sequence[float]) -> list[int]:
    """Return the indices after the jumps of asv's fit of a piecewise constant function.

    Source: asv.step_detect, after Friedrich et al. 2008, "Complexity penalized M-estimation: fast computation",
    J. Comput. Graph. Stat. 17.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from asv's own imports
            from asv.step_detect import detect_steps
    except ModuleNotFoundError as error:
        raise ValueError(MISSING) from error
    return [first for first, *_ in detect_steps(list(values))[1:]]
