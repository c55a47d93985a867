"""Changes of a series over commits: steps that asv detects, and counters that differ."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
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

    @property
    def span(self) -> str:
        """The commits on both sides; the cause is a commit after the first one, up to and including the second."""
        before, after = self.series.points[self.at - 1 : self.at + 1]
        return f"{before.commit.short} … {after.commit.short}"

    @property
    def is_worse(self) -> bool:
        """Whether the change is for the worse; every change of a counter without a better direction is."""
        better = self.series.metric.better
        return better == "same" or (self.new > self.old) == (better == "less")

    @property
    def levels(self) -> str:
        """The levels before and after, with the ratio."""
        unit = self.series.metric.unit
        times = f" ({self.new / self.old:.4g} times)" if self.old else ""
        return f"{format_quantity(self.old, unit)} to {format_quantity(self.new, unit)}{times}"

    def describe(self) -> str:
        """Return the series, the levels and the commits in one line."""
        verdict = "worse" if self.is_worse else "better"
        name = f"{self.series.benchmark.name}, {self.series.metric.name}"
        return f"{verdict}: {name}: {self.levels}, {self.span}"


def find_changes(series: Series) -> list[Change]:
    """Return the changes of a series, oldest first. ValueError if asv is missing or a time is not positive."""
    return _counter_changes(series) if series.metric.is_counter else _step_changes(series)


def _counter_changes(series: Series) -> list[Change]:
    """Return where a counter differs. A counter that varies within a commit is ignored."""
    changes = []
    for at, (before, after) in enumerate(pairwise(series.points), start=1):
        is_constant = len(set(before.runs)) == len(set(after.runs)) == 1
        if is_constant and before.value != after.value:
            changes.append(Change(series, at, before.value, after.value))
    return changes


def _step_changes(series: Series) -> list[Change]:
    """Return the steps of 2 % or more in the medians of commits."""
    runs_of_point: list[list[float]] = [[] for _ in series.points]
    for value, at in zip(*series.processes(), strict=True):
        if value <= 0:
            raise ValueError(f"{series.benchmark.name}: {series.metric.name} must be positive")
        runs_of_point[at].append(value)
    edges = [0, *_detect_steps([median(runs) for runs in runs_of_point]), len(series.points)]
    changes = []
    for first, at, end in zip(edges, edges[1:], edges[2:], strict=False):
        before = list(chain(*runs_of_point[first:at]))
        after = list(chain(*runs_of_point[at:end]))
        change = Change(series, at, median(before), median(after))
        factor = max(change.new / change.old, change.old / change.new)
        if factor >= 1 + SMALLEST_EFFECT and min(len(before), len(after)) >= MIN_PROCESSES:
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
