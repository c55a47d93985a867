"""Figures -> series over commits: one metric on one machine with one set of settings."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from bench.measure.observations import BenchmarkId, Commit, Metric, Observation
from bench.tables.groups import group_by

NEVER = datetime.min.replace(tzinfo=UTC)
MIN_IN_TURN = 3  # commits for an estimate of the common factor of a turn


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """The values of the processes of one commit."""

    commit: Commit
    runs: tuple[float, ...]
    turns: tuple[str, ...]  # the interleaved turn of each run, which other commits share; "": none

    @property
    def value(self) -> float:
        """The median over processes."""
        return median(self.runs)

    def runs_with_turns(self) -> Iterable[tuple[float, str]]:
        """Return (value, turn) of each process."""
        return zip(self.runs, self.turns, strict=True)


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over the commits that one machine measured, oldest first."""

    benchmark: BenchmarkId
    metric: Metric
    machine: str
    points: tuple[CommitPoint, ...]

    def values_by_commit(self) -> list[list[float]]:
        """Return the values of each commit that vary independently.

        Processes that were interleaved with other commits' processes give a value each: the common factor of a turn,
        such as a slow minute of the machine, is divided out. All others share the state of the machine, and give their
        median.
        """
        factors = _turn_factors(self.points)
        values_by_commit = []
        for point in self.points:
            values = []
            alone = []
            for value, turn in point.runs_with_turns():
                if turn in factors:
                    values.append(value / factors[turn])
                else:
                    alone.append(value)
            if alone:
                values.append(median(alone))
            values_by_commit.append(values)
        return values_by_commit


@dataclass(frozen=True, slots=True)
class CommitHistory:
    """All series, and all commits in order."""

    series: tuple[Series, ...]
    commits: tuple[Commit, ...]
    # ISO 8601; time of the first measurement where the commit's time is unknown.
    committed_at: dict[Commit, str]

    @property
    def machines(self) -> list[str]:
        """The machines, in the order of their first series."""
        return list(dict.fromkeys(line.machine for line in self.series))


def _turn_factors(points: Sequence[CommitPoint]) -> dict[str, float]:
    """Return the common factor of each turn that commits share: the median of process / median of its commit.

    It is 1 for two commits, which are too few. Source: a step of median polish, Tukey 1977, "Exploratory Data
    Analysis", chapter 11, on ratios.
    """
    ratios: dict[str, list[float]] = defaultdict(list)
    for point in points:
        for value, turn in point.runs_with_turns():
            if turn:
                ratios[turn].append(value / point.value)
    factors = {}
    for turn, ratios_of_turn in ratios.items():
        if len(ratios_of_turn) > 1:
            factors[turn] = median(ratios_of_turn) if len(ratios_of_turn) >= MIN_IN_TURN else 1.0
    return factors


def build_history(figures: Iterable[Observation]) -> CommitHistory:
    """Group figures into series; commits are in the order of their times."""
    figures = list(figures)
    commits = _times_of_commits(figures)
    by_series = group_by(figures, lambda figure: (figure.benchmark, figure.metric, figure.machine))
    lines = []
    for (benchmark, metric, machine), figures_of_series in by_series.items():
        points = _commit_points(figures_of_series, commits)
        lines.append(Series(benchmark, metric, machine, points))
    lines.sort(key=series_order)
    return CommitHistory(tuple(lines), tuple(commits), commits)


def _commit_points(
    figures: Sequence[Observation], commits: Iterable[Commit]
) -> tuple[CommitPoint, ...]:
    """Return the figures of a series as points, in the order of the commits."""
    by_commit = group_by(figures, lambda figure: figure.commit)
    points = []
    for commit in commits:
        if commit in by_commit:
            values = [figure.value for figure in by_commit[commit]]
            turns = [figure.turn for figure in by_commit[commit]]
            points.append(CommitPoint(commit, tuple(values), tuple(turns)))
    return tuple(points)


def series_order(line: Series | Observation) -> tuple[str, str, str, str]:
    """Return the key by which series and their figures are sorted."""
    return line.benchmark.group, line.benchmark.name, line.metric.name, line.machine


def _times_of_commits(figures: Sequence[Observation]) -> dict[Commit, str]:
    """Return the commits with their times, in their order; a changed work tree follows its commit."""
    commit_times: dict[str, str] = {}
    measured: dict[Commit, str] = {}
    for figure in sorted(figures, key=lambda figure: parse_time(figure.measured_at)):
        if figure.committed_at:
            commit_times.setdefault(figure.commit.id, figure.committed_at)
        measured.setdefault(figure.commit, figure.measured_at)
    times = {
        commit: commit_times.get(commit.id, measured_at) for commit, measured_at in measured.items()
    }
    in_order = sorted(times, key=lambda commit: (parse_time(times[commit]), commit.is_dirty))
    return {commit: times[commit] for commit in in_order}


def parse_time(text: str) -> datetime:
    """Parse a time; an invalid one is before all others."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return NEVER
    return time if time.tzinfo else time.replace(tzinfo=UTC)
