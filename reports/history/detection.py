"""Rates of detected changes and of false alarms, on simulated series with and without an injected change."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.console.tables import Table
from bench.history.observations import SECONDS, BenchmarkId, Commit
from reports.history.changes import Change, find_changes
from reports.history.series import CommitPoint, Series

COMMITS, PLANTED_AT = 60, 40  # of a series; index of the first commit with the injected change
NOISE, AUTOCORRELATION, OUTLIERS, OUTLIER = 0.02, 0.5, 0.05, 1.3
PLANTED = 0.05
LOOKS = (3, 5, 10)  # number of commits with the change at the time of detection
MOST_FALSE, LEAST_FOUND = 0.01, 0.8
FEW_COMMITS, PROCESSES, HALF = 8, 3, 4  # the size of `nox -s history -- 8`, half of it before the injected change
FEW_PLANTED, FEW_NOISES = (0.05, 0.1, 0.25), (0.02, 0.04)
NEAR = 2  # commits between an injected and a detected change
Values = npt.NDArray[np.float64]


def iid(draw: np.random.Generator) -> Values:
    """Return independent logarithms."""
    return draw.normal(0, NOISE, COMMITS)


def alike(draw: np.random.Generator) -> Values:
    """Return autocorrelated logarithms of the same standard deviation: AR(1)."""
    found = np.empty(COMMITS)
    found[0] = draw.normal(0, NOISE)
    steps = draw.normal(0, NOISE * np.sqrt(1 - AUTOCORRELATION**2), COMMITS)
    for at in range(1, COMMITS):
        found[at] = AUTOCORRELATION * found[at - 1] + steps[at]
    return found


def with_outliers(draw: np.random.Generator) -> Values:
    """Return independent logarithms of which one in twenty is an outlier, 1.3 times as long."""
    disturbed = draw.random(COMMITS) < OUTLIERS
    return iid(draw) + np.where(disturbed, np.log(OUTLIER), 0.0)


KINDS: dict[str, Callable[[np.random.Generator], Values]] = {
    "2 % iid": iid,
    "2 % AR(1) 0.5": alike,
    "2 % iid, 5 % outliers": with_outliers,
}


def rates_table(many: int) -> tuple[Table, bool]:
    """Return the rates of `many` series of each kind of noise, and whether they meet the bounds.

    A false alarm is any change on a series without one. A change is found if one in the right direction is detected
    within two commits of it.
    """
    rows = [_row(name, draw, many) for name, draw in KINDS.items()]
    holds = rows[0]["confirmed falsely"] <= MOST_FALSE and rows[0][f"found after {LOOKS[-1]}"] >= LEAST_FOUND
    note = (
        f"Each rate is over {many:,} simulated series of {COMMITS} commits with one process each. The injected change\n"
        f"makes times {PLANTED:.0%} longer from commit {PLANTED_AT} on; detection runs after so many commits with it.\n"
        "found: suspected or confirmed; only a confirmed change may fail a gate. Bounds for 2 % iid:\n"
        f"at most {MOST_FALSE:.0%} confirmed falsely, at least {LEAST_FOUND:.0%} found after {LOOKS[-1]}: "
        f"{'met' if holds else 'not met'}."
    )
    return Table("Detection of changes over commits", rows, note, is_transposed=True), holds


def few_commits_table(many: int) -> Table:
    """Return the rates of `many` series over eight commits."""
    note = (
        f"Each rate is over {many:,} simulated series of {FEW_COMMITS} commits with {PROCESSES} processes each, as in "
        f"`nox -s history -- {FEW_COMMITS}`.\nThe injected change starts at commit number {HALF + 1}."
    )
    rows = [_few(noise, many) for noise in FEW_NOISES]
    return Table("Detection of changes over eight commits", rows, note, is_transposed=True)


def _few(noise: float, many: int) -> dict[str, Any]:
    generator, later = np.random.default_rng(0), (np.arange(FEW_COMMITS) >= HALF)[:, None]

    def series(planted: float) -> list[Values]:
        draws = (generator.normal(0, noise, (FEW_COMMITS, PROCESSES)) for _ in range(many))
        return [draw + np.log1p(planted) * later for draw in draws]

    row: dict[str, Any] = {"noise": f"{noise:.0%} iid"} | _false_alarms(series(0.0))
    for planted in FEW_PLANTED:
        row |= _found(series(planted), HALF, f"{planted:.0%} found", f"{planted:.0%} confirmed")
    return row


def _row(name: str, draw: Callable[[np.random.Generator], Values], many: int) -> dict[str, Any]:
    generator, later = np.random.default_rng(0), np.arange(COMMITS) >= PLANTED_AT
    row: dict[str, Any] = {"noise": name} | _false_alarms([draw(generator) for _ in range(many)])
    changed = [draw(generator) + np.log1p(PLANTED) * later for _ in range(many)]
    for look in (*LOOKS, COMMITS - PLANTED_AT):
        seen = [logs[: PLANTED_AT + look] for logs in changed]
        row |= _found(seen, PLANTED_AT, f"found after {look}", f"confirmed after {look}")
    return row


def _false_alarms(series: Iterable[Values]) -> dict[str, float]:
    found = [_changes(logs) for logs in series]
    return {f"{kind} falsely": _share(found, kind) for kind in ("confirmed", "suspected")}


def _found(series: Iterable[Values], planted_at: int, found_title: str, confirmed_title: str) -> dict[str, float]:
    found = [
        [change for change in _changes(logs) if change.is_worse and abs(change.at - planted_at) <= NEAR]
        for logs in series
    ]
    return {found_title: _share(found, "confirmed", "suspected"), confirmed_title: _share(found, "confirmed")}


def _changes(logs: Values) -> list[Change]:
    """Detect the changes of logarithms by commit, or by commit and process."""
    values = np.exp(logs)
    points = tuple(
        CommitPoint(Commit(str(at)), tuple(runs)) for at, runs in enumerate(values.reshape(len(values), -1).tolist())
    )
    return find_changes(Series(BenchmarkId("simulated", "simulated"), SECONDS, "none", points))


def _share(series: list[list[Change]], *kinds: str) -> float:
    return sum(any(change.kind in kinds for change in changes) for changes in series) / len(series)
