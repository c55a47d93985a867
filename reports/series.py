"""Metric values -> series over commits: one metric on one machine with one set of settings."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from bench.measure.metric_values import BenchmarkId, CommitOrWorkTree, Metric, MetricValue
from bench.tables.groups import group_by

NEVER = datetime.min.replace(tzinfo=UTC)
MIN_IN_TURN = 3  # commits for an estimate of the common factor of a turn


@dataclass(frozen=True, slots=True)
class CommitValues:
    """The values of the processes of one commit."""

    commit: CommitOrWorkTree
    runs: tuple[float, ...]
    turns: tuple[str, ...]  # the interleaved turn of each run, which other commits share; "": none

    @property
    def median(self) -> float:
        """The median over processes."""
        return median(self.runs)


@dataclass(frozen=True, slots=True)
class MetricSeries:
    """One metric over the commits that one machine measured, oldest first."""

    benchmark: BenchmarkId
    metric: Metric
    machine: str
    points: tuple[CommitValues, ...]

    def independent_values_by_commit(self) -> list[list[float]]:
        """Return the values of each commit that vary independently.

        Processes that were interleaved with other commits' processes give a value each: the common factor of a turn,
        such as a slow minute of the machine, is divided out. All others share the state of the machine, and give their
        median.
        """
        factors = _common_factor_by_turn(self.points)
        independent_values_by_commit = []
        for point in self.points:
            values = []
            alone = []
            for value, turn in zip(point.runs, point.turns, strict=True):
                if turn in factors:
                    values.append(value / factors[turn])
                else:
                    alone.append(value)
            if alone:
                values.append(median(alone))
            independent_values_by_commit.append(values)
        return independent_values_by_commit


@dataclass(frozen=True, slots=True)
class MetricHistory:
    """All series, and all commits in the order of their times."""

    series: tuple[MetricSeries, ...]
    commits: tuple[CommitOrWorkTree, ...]

    @property
    def machines(self) -> list[str]:
        """The machines, in the order of their first series."""
        return list(dict.fromkeys(line.machine for line in self.series))


def _common_factor_by_turn(points: Sequence[CommitValues]) -> dict[str, float]:
    """Return by turn what its processes have in common: the median of process / median of its commit.

    Only turns that several commits share are included; for two commits, which are too few, the factor is 1.
    Source: a step of median polish on ratios, Tukey 1977, "Exploratory Data Analysis", chapter 11.
    """
    ratios: dict[str, list[float]] = defaultdict(list)
    for point in points:
        for value, turn in zip(point.runs, point.turns, strict=True):
            if turn:
                ratios[turn].append(value / point.median)
    factors = {}
    for turn, ratios_of_turn in ratios.items():
        if len(ratios_of_turn) >= MIN_IN_TURN:
            factors[turn] = median(ratios_of_turn)
        elif len(ratios_of_turn) > 1:
            factors[turn] = 1.0
    return factors


def build_history(metric_values: Iterable[MetricValue]) -> MetricHistory:
    """Group metric values into series; commits are in the order of their times."""
    metric_values = list(metric_values)
    commits = _sort_commits_by_time(metric_values)
    by_series = group_by(
        metric_values,
        lambda metric_value: (metric_value.benchmark, metric_value.metric, metric_value.machine),
    )
    series = []
    for (benchmark, metric, machine), observations_of_series in by_series.items():
        points = _list_values_by_commit(observations_of_series, commits)
        series.append(MetricSeries(benchmark, metric, machine, points))
    series.sort(key=series_sort_key)
    return MetricHistory(tuple(series), tuple(commits))


def _list_values_by_commit(
    metric_values: Sequence[MetricValue], commits: Iterable[CommitOrWorkTree]
) -> tuple[CommitValues, ...]:
    """Return the metric values of a series as points, in the order of the commits."""
    by_commit = group_by(metric_values, lambda metric_value: metric_value.commit)
    points = []
    for commit in commits:
        if commit in by_commit:
            values = [metric_value.value for metric_value in by_commit[commit]]
            turns = [metric_value.turn for metric_value in by_commit[commit]]
            points.append(CommitValues(commit, tuple(values), tuple(turns)))
    return tuple(points)


def series_sort_key(item: MetricSeries | MetricValue) -> tuple[str, str, str, str]:
    """Return the key by which series, or metric values, are sorted: group, benchmark, metric, machine."""
    benchmark = item.benchmark
    return benchmark.group, benchmark.name, item.metric.name, item.machine


def _sort_commits_by_time(metric_values: Sequence[MetricValue]) -> list[CommitOrWorkTree]:
    """Return the commits of metric values, oldest first; a changed work tree follows its commit.

    The time of a commit is unknown in records: the time of its first measurement takes its place.
    """
    commit_times: dict[str, str] = {}
    measured_at: dict[CommitOrWorkTree, str] = {}
    for metric_value in sorted(
        metric_values, key=lambda metric_value: parse_time(metric_value.measured_at)
    ):
        if metric_value.committed_at:
            commit_times.setdefault(metric_value.commit.id, metric_value.committed_at)
        measured_at.setdefault(metric_value.commit, metric_value.measured_at)

    def order(commit: CommitOrWorkTree) -> tuple[datetime, bool]:
        time = commit_times.get(commit.id, measured_at[commit])
        return parse_time(time), commit.is_dirty

    return sorted(measured_at, key=order)


def parse_time(text: str) -> datetime:
    """Parse a time; an invalid one is before all others."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return NEVER
    return time if time.tzinfo else time.replace(tzinfo=UTC)
