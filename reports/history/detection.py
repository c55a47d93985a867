"""How often the detection of changes is right: simulated lines over commits, with and without a planted jump."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.console.tables import Table
from bench.history.figures import SECONDS, Commit, Subject
from reports.history.changes import Change, changes_of
from reports.history.series import Line, Point

COMMITS, PLANTED_AT = 60, 40  # of a line; the commit with which a planted change comes
NOISE, AUTOCORRELATION, OUTLIERS, OUTLIER = 0.02, 0.5, 0.05, 1.3
PLANTED = 0.05
LOOKS = (3, 5, 10)  # commits with the change, when one looks for it
MOST_FALSE, LEAST_FOUND = 0.01, 0.8
FEW_COMMITS, PROCESSES, HALF = 8, 3, 4  # what `nox -s history -- 8` measures, half of it before a planted change
FEW_PLANTED, FEW_NOISES = (0.05, 0.1, 0.25), (0.02, 0.04)
Draw = Callable[[np.random.Generator], npt.NDArray[np.float64]]


def iid(draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return logarithms that know nothing of each other."""
    return draw.normal(0, NOISE, COMMITS)


def alike(draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return logarithms of the same spread each of which is alike its neighbours: AR(1)."""
    found = np.empty(COMMITS)
    found[0] = draw.normal(0, NOISE)
    steps = draw.normal(0, NOISE * np.sqrt(1 - AUTOCORRELATION**2), COMMITS)
    for at in range(1, COMMITS):
        found[at] = AUTOCORRELATION * found[at - 1] + steps[at]
    return found


def with_outliers(draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return logarithms one in twenty of which was disturbed: 1.3 times as long."""
    disturbed = draw.random(COMMITS) < OUTLIERS
    return iid(draw) + np.where(disturbed, np.log(OUTLIER), 0.0)


KINDS: dict[str, Draw] = {"2 % iid": iid, "2 % AR(1) 0.5": alike, "2 % iid, 5 % outliers": with_outliers}


def rates_table(many: int) -> tuple[Table, bool]:
    """Return how often so many lines of each kind raise an alarm, and how often a change is found; whether that holds.

    A false alarm is any change on a line without one. A change is found where one of the right direction is named
    within two commits of its place.
    """
    rows: list[dict[str, Any]] = [_row(name, draw, many) for name, draw in KINDS.items()]
    first = rows[0]
    holds = first["confirmed falsely"] <= MOST_FALSE and first[f"found after {LOOKS[-1]}"] >= LEAST_FOUND
    note = (
        f"{many:,} simulated lines of {COMMITS} commits, one process each, for every figure. A planted change makes\n"
        f"times {PLANTED:.0%} longer from commit {PLANTED_AT} on; it is looked for when so many commits have it.\n"
        "found: suspected or confirmed; confirmed alone may gate. Asked of 2 % iid: at most "
        f"{MOST_FALSE:.0%} confirmed falsely, at least\n{LEAST_FOUND:.0%} found after {LOOKS[-1]}: "
        f"{'holds' if holds else 'does not hold'}."
    )
    return Table("Detection of changes over commits", rows, note, turned=True), holds


def few_commits_table(many: int) -> Table:
    """Return how often changes over eight commits are found, and alarms are false, on so many lines."""
    note = (
        f"{many:,} simulated lines of {FEW_COMMITS} commits, {PROCESSES} processes each, as `nox -s history -- "
        f"{FEW_COMMITS}` measures them, for every figure.\nThe planted change comes with the commit number {HALF + 1}."
    )
    return Table(
        "Detection of changes over eight commits", [_few(noise, many) for noise in FEW_NOISES], note, turned=True
    )


def _few(noise: float, many: int) -> dict[str, Any]:
    generator, shape = np.random.default_rng(0), (FEW_COMMITS, PROCESSES)

    def lines(planted: float) -> list[list[Change]]:
        later = np.log1p(planted) * (np.arange(FEW_COMMITS) >= HALF)[:, None]
        return [changes_of(_line(np.exp(generator.normal(0, noise, shape) + later))) for _ in range(many)]

    unchanged = lines(0.0)
    row: dict[str, Any] = {"noise": f"{noise:.0%} iid"}
    row |= {f"{kind} falsely": _share(unchanged, kind) for kind in ("confirmed", "suspected")}
    for planted in FEW_PLANTED:
        found = [_found(changes, HALF) for changes in lines(planted)]
        row[f"{planted:.0%} found"] = _share(found, "confirmed", "suspected")
        row[f"{planted:.0%} confirmed"] = _share(found, "confirmed")
    return row


def _row(name: str, draw: Draw, many: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    unchanged = [changes_of(_line(np.exp(draw(generator)))) for _ in range(many)]
    row: dict[str, Any] = {
        "noise": name,
        "confirmed falsely": _share(unchanged, "confirmed"),
        "suspected falsely": _share(unchanged, "suspected"),
    }
    changed = [np.exp(draw(generator) + np.log1p(PLANTED) * (np.arange(COMMITS) >= PLANTED_AT)) for _ in range(many)]
    for look in (*LOOKS, COMMITS - PLANTED_AT):
        found = [_found(changes_of(_line(values[: PLANTED_AT + look]))) for values in changed]
        row[f"found after {look}"] = _share(found, "confirmed", "suspected")
        row[f"confirmed after {look}"] = _share(found, "confirmed")
    return row


def _line(values: npt.NDArray[np.float64]) -> Line:
    """Make a line of values by commit, or by commit and process."""
    points = tuple(
        Point(Commit(str(at)), tuple(runs)) for at, runs in enumerate(values.reshape(len(values), -1).tolist())
    )
    return Line(Subject("simulated", "simulated"), SECONDS, "none", points)


def _found(changes: list[Change], planted_at: int = PLANTED_AT) -> list[Change]:
    return [change for change in changes if change.is_worse and abs(change.at - planted_at) <= 2]  # noqa: PLR2004


def _share(lines: list[list[Change]], *kinds: str) -> float:
    return sum(any(change.kind in kinds for change in changes) for changes in lines) / len(lines)
