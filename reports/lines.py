"""Figures -> lines over commits: one figure on one machine, never joined across machines or settings."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import pandas as pd

from bench.history.figures import Commit, Figure, Measure, Subject

NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """What the processes of one commit measured."""

    commit: Commit
    runs: tuple[float, ...]

    @property
    def value(self) -> float:
        """The median of the processes."""
        return median(self.runs)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over the commits on which one machine measured it, oldest first."""

    subject: Subject
    measure: Measure
    machine: str
    points: tuple[Point, ...]

    def processes(self) -> tuple[list[float], list[int]]:
        """Return the value of every process in the order of the commits, and which point each is of."""
        values = [value for point in self.points for value in point.runs]
        return values, [at for at, point in enumerate(self.points) for _ in point.runs]


@dataclass(frozen=True, slots=True)
class History:
    """All lines, and all commits in their order."""

    lines: tuple[Line, ...]
    commits: tuple[Commit, ...]
    committed_at: dict[Commit, str]  # or when it was first measured, where its time is not told

    @property
    def machines(self) -> list[str]:
        """The machines, in the order in which they were met."""
        return list(dict.fromkeys(line.machine for line in self.lines))


def history_of(figures: Iterable[Figure]) -> History:
    """Arrange figures by what they are of; commits stand in the order of their times."""
    figures = list(figures)
    commits = _in_order(figures)
    values: dict[tuple[Subject, Measure, str], dict[Commit, list[float]]] = defaultdict(lambda: defaultdict(list))
    for figure in figures:
        values[figure.subject, figure.measure, figure.machine][figure.commit].append(figure.value)
    lines = [
        Line(*key, tuple(Point(commit, tuple(found[commit])) for commit in commits if commit in found))
        for key, found in values.items()
    ]
    lines.sort(key=lambda line: (line.subject.group, line.subject.name, line.measure.name, line.machine))
    return History(tuple(lines), tuple(commits), commits)


def _in_order(figures: Sequence[Figure]) -> dict[Commit, str]:
    """Return the commits with their times: by time of the commit, then a changed work tree after the commit itself."""
    told: dict[str, str] = {}
    measured: dict[Commit, str] = {}
    for figure in sorted(figures, key=lambda figure: _time(figure.measured_at)):
        if figure.committed_at:
            told.setdefault(figure.commit.id, figure.committed_at)
        measured.setdefault(figure.commit, figure.measured_at)
    times = {commit: told.get(commit.id, at) for commit, at in measured.items()}
    return dict(sorted(times.items(), key=lambda item: (_time(item[1]), item[0].is_dirty)))


def _time(told: str) -> datetime:
    """Read a time; what cannot be read was before all others."""
    try:
        time = datetime.fromisoformat(told)
    except ValueError:
        return NEVER
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def figures_frame(history: History) -> pd.DataFrame:
    """Return one row for each figure of each process."""
    rows = [
        {
            "group": line.subject.group,
            "name": line.subject.name,
            "settings": line.subject.settings,
            "measure": line.measure.name,
            "unit": line.measure.unit,
            "better": line.measure.better,
            "commit": point.commit.id,
            "dirty": point.commit.is_dirty,
            "at": history.committed_at[point.commit],
            "value": value,
            "machine": line.machine,
        }
        for line in history.lines
        for point in line.points
        for value in point.runs
    ]
    return pd.DataFrame(rows)
