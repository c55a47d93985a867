"""Changes of a series over commits: times that Student's t tells apart, and counters that differ."""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from bench.measure.metric_values import CommitOrWorkTree
from bench.statistics.ratios import ALPHA, SMALLEST_EFFECT, compare_log_rates_of_independent_runs
from bench.tables.formats import format_quantity
from reports.series import MetricSeries


@dataclass(frozen=True, slots=True)
class SeriesJump:
    """A jump of a series between two successive commits."""

    series: MetricSeries
    at: int  # index of the first point after the jump
    old: float  # median before the jump, back to the previous one
    new: float  # median after the jump, up to the next one

    @property
    def commits(self) -> tuple[CommitOrWorkTree, CommitOrWorkTree]:
        """The commits before and after the jump."""
        before, after = self.series.points[self.at - 1 : self.at + 1]
        return before.commit, after.commit

    @property
    def commits_text(self) -> str:
        """The two commits; the cause is a commit after the first one, up to and including the second."""
        before, after = self.commits
        return f"{before.short_id} … {after.short_id}"

    @property
    def is_worse(self) -> bool:
        """Whether the change is for the worse, as every change of a counter that should stay the same."""
        better = self.series.metric.better
        if better == "same":
            return True
        is_larger = self.new > self.old
        return is_larger == (better == "less")

    @property
    def medians_text(self) -> str:
        """The medians before and after the jump, with their ratio."""
        unit = self.series.metric.unit
        old = format_quantity(self.old, unit)
        new = format_quantity(self.new, unit)
        ratio = f" ({self.new / self.old:.4g} times)" if self.old else ""
        return f"{old} to {new}{ratio}"

    def describe(self) -> str:
        """Return the series, the medians and the commits in one line."""
        verdict = "worse" if self.is_worse else "better"
        name = f"{self.series.benchmark.name}, {self.series.metric.name}"
        return f"{verdict}: {name}: {self.medians_text}, {self.commits_text}"


@dataclass(frozen=True, slots=True)
class SeriesSegment:
    """Successive points of a series whose times no test tells apart."""

    start: int  # index of its first point
    log_values: list[float]  # of the independent values of its commits


def find_series_jumps(series: MetricSeries, num_series: int = 1) -> list[SeriesJump]:
    """Return the changes of a series, oldest first; the level of the test is divided by `num_series`."""
    if series.metric.is_counter:
        return _find_counter_jumps(series)
    return _find_time_jumps(series, ALPHA / num_series)


def can_judge_newest_commit(series: MetricSeries) -> bool:
    """Return whether a test could tell a change of the newest commit's time: it needs two values on each side."""
    *earlier, newest = series.independent_values_by_commit()
    return len(newest) > 1 and sum(map(len, earlier)) > 1


def _find_counter_jumps(series: MetricSeries) -> list[SeriesJump]:
    """Return the changes of a counter between commits; a counter that varies within a commit has none there."""
    changes = []
    for at, (before, after) in enumerate(pairwise(series.points), start=1):
        is_exact = len(set(before.runs)) == len(set(after.runs)) == 1
        if is_exact and before.median != after.median:
            changes.append(SeriesJump(series, at, before.median, after.median))
    return changes


def _find_time_jumps(series: MetricSeries, alpha: float) -> list[SeriesJump]:
    """Return the changes between segments of commits: the nearest two are merged until a test tells them apart.

    The level of the test is divided by the number of commits. Source of the order of merging: Ward 1963,
    "Hierarchical grouping to optimize an objective function", J. Am. Stat. Assoc. 58.
    """
    segments = []
    for start, values in enumerate(series.independent_values_by_commit()):
        segments.append(SeriesSegment(start, [math.log(value) for value in values]))
    alpha /= len(segments)
    while len(segments) > 1:
        distances = [_ward_distance(before, after) for before, after in pairwise(segments)]
        nearest = distances.index(min(distances))
        before, after = segments[nearest : nearest + 2]
        if _differ_significantly(before, after, alpha):
            break
        segments[nearest : nearest + 2] = [
            SeriesSegment(before.start, before.log_values + after.log_values)
        ]
    changes = []
    for before, after in pairwise(segments):
        if _differ_significantly(before, after, alpha):
            old = math.exp(median(before.log_values))
            new = math.exp(median(after.log_values))
            changes.append(SeriesJump(series, after.start, old, new))
    return changes


def _ward_distance(before: SeriesSegment, after: SeriesSegment) -> float:
    """Return how much merging adds to the sum of squared deviations from the means of segments."""
    num_before = len(before.log_values)
    num_after = len(after.log_values)
    weight = num_before * num_after / (num_before + num_after)
    difference = fmean(after.log_values) - fmean(before.log_values)
    return weight * difference**2


def _differ_significantly(before: SeriesSegment, after: SeriesSegment, alpha: float) -> bool:
    """Return whether two segments differ by 2 % or more, by Student's t at the level `alpha`."""
    ratio = compare_log_rates_of_independent_runs(before.log_values, after.log_values)
    effect = abs(math.log(ratio.value))
    is_large = effect >= math.log1p(SMALLEST_EFFECT)
    return is_large and ratio.p is not None and ratio.p <= alpha
