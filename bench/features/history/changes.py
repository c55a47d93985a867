"""Changes of a series over commits: steps that asv detects, and counters that differ."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from statistics import median

from bench.measure.observations import Commit
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
    def commits(self) -> tuple[Commit, Commit]:
        """The commits before and after the change."""
        points = self.series.points
        return points[self.at - 1].commit, points[self.at].commit

    @property
    def span(self) -> str:
        """The commits on both sides; the cause is a commit after the first one, up to and including the second."""
        before, after = self.commits
        return f"{before.short} … {after.short}"

    @property
    def is_worse(self) -> bool:
        """Whether the change is for the worse; every change of a counter that should stay the same is."""
        better = self.series.metric.better
        if better == "same":
            return True
        is_larger = self.new > self.old
        return is_larger == (better == "less")

    @property
    def levels(self) -> str:
        """The levels before and after, with the ratio."""
        unit = self.series.metric.unit
        levels = f"{format_quantity(self.old, unit)} to {format_quantity(self.new, unit)}"
        if self.old:
            levels += f" ({self.new / self.old:.4g} times)"
        return levels

    def describe(self) -> str:
        """Return the series, the levels and the commits in one line."""
        verdict = "worse" if self.is_worse else "better"
        name = f"{self.series.benchmark.name}, {self.series.metric.name}"
        return f"{verdict}: {name}: {self.levels}, {self.span}"


def find_changes(series: Series) -> list[Change]:
    """Return the changes of a series, oldest first. ValueError if asv is missing or a time is not positive."""
    if series.metric.is_counter:
        return _counter_changes(series)
    return _step_changes(series)


def _counter_changes(series: Series) -> list[Change]:
    """Return where a counter differs. A counter that varies within a commit is ignored."""
    changes = []
    for at, (before, after) in enumerate(pairwise(series.points), start=1):
        is_constant = len(set(before.runs)) == 1 and len(set(after.runs)) == 1
        if is_constant and before.value != after.value:
            changes.append(Change(series, at, before.value, after.value))
    return changes


def _step_changes(series: Series) -> list[Change]:
    """Return the steps of 2 % or more in the medians of commits."""
    runs_of_point: list[list[float]] = [[] for _ in series.points]
    values, positions = series.processes()
    for value, at in zip(values, positions, strict=True):
        if value <= 0:
            raise ValueError(f"{series.benchmark.name}: {series.metric.name} must be positive")
        runs_of_point[at].append(value)
    steps = _detect_steps([median(runs) for runs in runs_of_point])
    starts = [0, *steps]
    ends = [*steps[1:], len(series.points)]
    changes = []
    for start, at, end in zip(starts, steps, ends, strict=False):
        before = list(chain(*runs_of_point[start:at]))
        after = list(chain(*runs_of_point[at:end]))
        change = Change(series, at, median(before), median(after))
        factor = max(change.new / change.old, change.old / change.new)
        num_processes = min(len(before), len(after))
        if factor >= 1 + SMALLEST_EFFECT and num_processes >= MIN_PROCESSES:
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
    levels = detect_steps(list(values))
    return [level[0] for level in levels[1:]]
