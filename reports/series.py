"""Figures -> series over commits: one metric on one machine with one set of settings."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import pandas as pd

from bench.experiment.config import Experiment, differing_fields, get_field
from bench.experiment.experiments import EXPERIMENTS, SCALES
from bench.experiment.settings import split_name
from bench.measure.observations import BenchmarkId, Commit, Metric, Observation

NEVER = datetime.min.replace(tzinfo=UTC)
MIN_IN_SLOT = 3  # commits for an estimate of the common factor of a turn


@dataclass(frozen=True, slots=True)
class CommitPoint:
    """The values of the processes of one commit."""

    commit: Commit
    runs: tuple[float, ...]
    slots: tuple[
        str, ...
    ] = ()  # of each run: the name of its interleaved turn, shared with other commits; "": none

    @property
    def value(self) -> float:
        """The median over processes."""
        return median(self.runs)

    def runs_with_slots(self) -> Iterable[tuple[float, str]]:
        """Return (value, slot) of each process."""
        return zip(self.runs, self.slots or [""] * len(self.runs), strict=True)


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over the commits that one machine measured, oldest first."""

    benchmark: BenchmarkId
    metric: Metric
    machine: str
    points: tuple[CommitPoint, ...]

    def processes(self) -> tuple[list[float], list[int]]:
        """Return the value of every process in the order of the commits, and the index of its point.

        The common factor of the processes of a turn, such as a slow minute of the machine, is divided out.
        """
        factors = _turn_factors(self.points)
        values = [
            value / factors.get(turn, 1.0)
            for point in self.points
            for value, turn in point.runs_with_slots()
        ]
        return values, [at for at, point in enumerate(self.points) for _ in point.runs]


@dataclass(frozen=True, slots=True)
class CommitHistory:
    """All series, and all commits in order."""

    series: tuple[Series, ...]
    commits: tuple[Commit, ...]
    # ISO 8601; time of the first measurement where the commit's time is unknown.
    committed_at: dict[Commit, str]
    figures: tuple[Observation, ...]

    @property
    def machines(self) -> list[str]:
        """The machines, in the order of their first series."""
        return list(dict.fromkeys(line.machine for line in self.series))


def _turn_factors(points: Sequence[CommitPoint]) -> dict[str, float]:
    """Return the common factor of each turn: the median over three or more commits of process / median of its commit.

    Source: a step of median polish, Tukey 1977, "Exploratory Data Analysis", chapter 11, on ratios.
    """
    ratios: dict[str, list[float]] = defaultdict(list)
    for point in points:
        for value, turn in point.runs_with_slots():
            if turn and point.value > 0:
                ratios[turn].append(value / point.value)
    return {turn: median(found) for turn, found in ratios.items() if len(found) >= MIN_IN_SLOT}


def build_history(figures: Iterable[Observation]) -> CommitHistory:
    """Group figures into series; commits are in the order of their times."""
    figures = list(figures)
    commits = _times_of_commits(figures)
    runs: dict[
        tuple[BenchmarkId, Metric, str], dict[Commit, list[tuple[float, str]]]
    ] = {}  # (value, slot)
    for figure in figures:
        of_series = runs.setdefault((figure.benchmark, figure.metric, figure.machine), {})
        of_series.setdefault(figure.commit, []).append((figure.value, figure.slot))
    lines = [
        Series(
            *key,
            tuple(CommitPoint(at, *zip(*found[at], strict=True)) for at in commits if at in found),
        )
        for key, found in runs.items()
    ]
    lines.sort(
        key=lambda line: (line.benchmark.group, line.benchmark.name, line.metric.name, line.machine)
    )
    return CommitHistory(tuple(lines), tuple(commits), commits, tuple(figures))


def _times_of_commits(figures: Sequence[Observation]) -> dict[Commit, str]:
    """Return the commits with their times, in their order; a changed work tree follows its commit."""
    commit_times: dict[str, str] = {}
    measured: dict[Commit, str] = {}
    for figure in sorted(figures, key=lambda figure: _parse_time(figure.measured_at)):
        if figure.committed_at:
            commit_times.setdefault(figure.commit.id, figure.committed_at)
        measured.setdefault(figure.commit, figure.measured_at)
    times = {commit: commit_times.get(commit.id, at) for commit, at in measured.items()}
    return dict(sorted(times.items(), key=lambda item: (_parse_time(item[1]), item[0].is_dirty)))


def _parse_time(text: str) -> datetime:
    """Parse a time; an invalid one is before all others."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return NEVER
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def figures_frame(history: CommitHistory) -> pd.DataFrame:
    """Return one row per figure of each process, in the order of the series and of their measurements."""
    figures = sorted(history.figures, key=lambda one: _parse_time(one.measured_at))
    figures.sort(
        key=lambda one: (one.benchmark.group, one.benchmark.name, one.metric.name, one.machine)
    )
    rows = [
        {
            "group": one.benchmark.group,
            "name": one.benchmark.name,
            **_experiment_columns(one.experiment),
            "settings_digest": one.benchmark.settings,
            "measure": one.metric.name,
            "unit": one.metric.unit,
            "better": one.metric.better,
            "commit": one.commit.id,
            "dirty": one.commit.is_dirty,
            "committed_at": one.committed_at or "",
            "measured_at": one.measured_at,
            "value": one.value,
            "machine": one.machine,
        }
        for one in figures
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def _experiment_columns(experiment: Experiment | None) -> dict[str, object]:
    """Return method, scale, tower, seed, and the settings in which it differs from the named experiment."""
    if experiment is None:
        return {"method": "", "scale": "", "tower": "", "seed": None, "changed_settings": ""}
    base = split_name(experiment.name)[0]
    scale = next((one for one in SCALES if base.endswith(f"-{one}")), "")
    named = EXPERIMENTS.get(base, experiment)
    changed = [name for name in differing_fields([named, experiment]) if name != "seed"]
    return {
        "method": experiment.method,
        "scale": scale,
        "tower": experiment.image.tower,
        "seed": experiment.seed,
        "changed_settings": "; ".join(f"{name}={get_field(experiment, name)}" for name in changed),
    }
