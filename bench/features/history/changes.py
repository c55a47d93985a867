"""Changes of a series over commits: times that Student's t tells apart, and counters that differ."""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from bench.measure.observations import Commit
from bench.statistics.ratios import ALPHA, SMALLEST_EFFECT, compare_independent_logs
from bench.tables.formats import format_quantity
from reports.series import MetricSeries


@dataclass(frozen=True, slots=True)
class Change:
    """A jump between two successive commits of a series."""

    series: MetricSeries
    at: int  # index of the first point after it
    old: float  # median before it, back to the change before
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


@dataclass(frozen=True, slots=True)
class Stretch:
    """Successive commits whose times no test tells apart."""

    start: int  # index of its first point
    logs: list[float]  # logarithms of the commits' independent values


def find_changes(series: MetricSeries, num_series: int = 1) -> list[Change]:
    """Return the changes of a series, one of `num_series` that are tested together, oldest first."""
    if series.metric.is_counter:
        return _counter_changes(series)
    return _time_changes(series, ALPHA / num_series)


def has_verdict(series: MetricSeries) -> bool:
    """Return whether a change of a time in the newest commit could be told: a test needs two values on each side."""
    *earlier, newest = series.independent_values_by_commit()
    return len(newest) > 1 and sum(map(len, earlier)) > 1


def _counter_changes(series: MetricSeries) -> list[Change]:
    """Return where a counter differs. A counter that varies within a commit is ignored."""
    changes = []
    for at, (before, after) in enumerate(pairwise(series.points), start=1):
        num_values = max(len(set(before.runs)), len(set(after.runs)))
        if num_values == 1 and before.median != after.median:
            changes.append(Change(series, at, before.median, after.median))
    return changes


def _time_changes(series: MetricSeries, alpha: float) -> list[Change]:
    """Return the changes between stretches of commits: the nearest two are merged until a test tells them apart.

    The level of the test is divided by the number of commits. Source of the order of merging: Ward 1963,
    "Hierarchical grouping to optimize an objective function", J. Am. Stat. Assoc. 58.
    """
    stretches = []
    for at, values in enumerate(series.independent_values_by_commit()):
        stretches.append(Stretch(at, [math.log(value) for value in values]))
    alpha /= len(stretches)
    while len(stretches) > 1:
        distances = [_ward_distance(before, after) for before, after in pairwise(stretches)]
        nearest = distances.index(min(distances))
        before, after = stretches[nearest : nearest + 2]
        if _differ(before, after, alpha):
            break
        stretches[nearest : nearest + 2] = [Stretch(before.start, before.logs + after.logs)]
    changes = []
    for before, after in pairwise(stretches):
        if _differ(before, after, alpha):
            old = math.exp(median(before.logs))
            new = math.exp(median(after.logs))
            changes.append(Change(series, after.start, old, new))
    return changes


def _ward_distance(before: Stretch, after: Stretch) -> float:
    """Return how much merging adds to the sum of squared deviations from the means of stretches."""
    weight = 1 / (1 / len(before.logs) + 1 / len(after.logs))
    difference = fmean(after.logs) - fmean(before.logs)
    return weight * difference**2


def _differ(before: Stretch, after: Stretch, alpha: float) -> bool:
    """Return whether two stretches differ by 2 % or more, by Student's t."""
    ratio = compare_independent_logs(before.logs, after.logs)
    is_large = abs(math.log(ratio.value)) >= math.log1p(SMALLEST_EFFECT)
    return is_large and ratio.p is not None and ratio.p <= alpha
