"""Rates of detected changes and of false alarms, on simulated series with and without an injected change."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.features.history.changes import Change, find_changes
from bench.measure.observations import SECONDS, BenchmarkId, Commit
from bench.tables.tables import Table
from reports.series import CommitPoint, Series

COMMITS, INJECTED_AT = 60, 40  # of a series; index of the first commit with the injected change
NOISE, AUTOCORRELATION, OUTLIERS, OUTLIER = 0.02, 0.5, 0.05, 1.3
INJECTED = 0.05
COMMITS_AFTER = (3, 5, 10)  # number of commits with the change at the time of detection
MAX_FALSE_ALARMS, MIN_FOUND = 0.01, 0.8
FEW_COMMITS, PROCESSES, HALF = 8, 3, 4  # the size of `nox -s history -- 8`, half of it before the injected change
FEW_INJECTED, FEW_NOISES = (0.05, 0.1, 0.25), (0.02, 0.04)
NEARBY = 2  # commits between an injected and a detected change
Values = npt.NDArray[np.float64]


def draw_iid(generator: np.random.Generator) -> Values:
    """Return independent logarithms."""
    return generator.normal(0, NOISE, COMMITS)


def draw_ar1(generator: np.random.Generator) -> Values:
    """Return autocorrelated logarithms of the same standard deviation: AR(1)."""
    found = [generator.normal(0, NOISE)]
    for step in generator.normal(0, NOISE * np.sqrt(1 - AUTOCORRELATION**2), COMMITS)[1:]:
        found.append(AUTOCORRELATION * found[-1] + step)
    return np.array(found)


def draw_with_outliers(generator: np.random.Generator) -> Values:
    """Return independent logarithms of which one in twenty is an outlier, 1.3 times as long."""
    disturbed = generator.random(COMMITS) < OUTLIERS
    return draw_iid(generator) + np.where(disturbed, np.log(OUTLIER), 0.0)


KINDS: dict[str, Callable[[np.random.Generator], Values]] = {
    "2 % iid": draw_iid,
    "2 % AR(1) 0.5": draw_ar1,
    "2 % iid, 5 % outliers": draw_with_outliers,
}


def detection_rates_table(count: int) -> tuple[Table, bool]:
    """Return the rates of `count` series of each kind of noise, and whether they meet the bounds.

    A false alarm is any change on a series without one. A change is found if one in the right direction is detected
    within two commits of it.
    """
    rows = [_noise_row(name, draw, count) for name, draw in KINDS.items()]
    holds = (
        rows[0]["confirmed falsely"] <= MAX_FALSE_ALARMS and rows[0][f"found after {COMMITS_AFTER[-1]}"] >= MIN_FOUND
    )
    note = (
        f"Each rate is over {count:,} simulated series of {COMMITS} commits with one process each. "
        f"The injected change\nmakes times {INJECTED:.0%} longer from commit {INJECTED_AT} on; "
        "detection runs after so many commits with it.\n"
        "found: suspected or confirmed; only a confirmed change may fail a gate. Bounds for 2 % iid:\n"
        f"at most {MAX_FALSE_ALARMS:.0%} confirmed falsely, at least {MIN_FOUND:.0%} found after {COMMITS_AFTER[-1]}: "
        f"{'met' if holds else 'not met'}."
    )
    return Table.of_figures("Detection of changes over commits", rows, note, is_transposed=True), holds


def few_commits_table(count: int) -> Table:
    """Return the rates of `count` series over eight commits."""
    note = (
        f"Each rate is over {count:,} simulated series of {FEW_COMMITS} commits with {PROCESSES} processes each, as in "
        f"`nox -s history -- {FEW_COMMITS}`.\nThe injected change starts at commit number {HALF + 1}."
    )
    rows = [_few_commits_row(noise, count) for noise in FEW_NOISES]
    return Table.of_figures("Detection of changes over eight commits", rows, note, is_transposed=True)


def _few_commits_row(noise: float, count: int) -> dict[str, Any]:
    generator, later = np.random.default_rng(0), (np.arange(FEW_COMMITS) >= HALF)[:, None]

    def series(slowdown: float) -> list[Values]:
        draws = (generator.normal(0, noise, (FEW_COMMITS, PROCESSES)) for _ in range(count))
        return [draw + np.log1p(slowdown) * later for draw in draws]

    row: dict[str, Any] = {"noise": f"{noise:.0%} iid"} | _false_alarm_rates(series(0.0))
    for slowdown in FEW_INJECTED:
        row |= _detection_rates(series(slowdown), HALF, f"{slowdown:.0%} found", f"{slowdown:.0%} confirmed")
    return row


def _noise_row(name: str, draw_logarithms: Callable[[np.random.Generator], Values], count: int) -> dict[str, Any]:
    generator, later = np.random.default_rng(0), np.arange(COMMITS) >= INJECTED_AT
    row: dict[str, Any] = {"noise": name} | _false_alarm_rates([draw_logarithms(generator) for _ in range(count)])
    changed = [draw_logarithms(generator) + np.log1p(INJECTED) * later for _ in range(count)]
    for after in (*COMMITS_AFTER, COMMITS - INJECTED_AT):
        seen = [logs[: INJECTED_AT + after] for logs in changed]
        row |= _detection_rates(seen, INJECTED_AT, f"found after {after}", f"confirmed after {after}")
    return row


def _false_alarm_rates(series: Iterable[Values]) -> dict[str, float]:
    found = [_detect(logs) for logs in series]
    return {f"{kind} falsely": _fraction_with(found, kind) for kind in ("confirmed", "suspected")}


def _detection_rates(
    series: Iterable[Values], injected_at: int, found_title: str, confirmed_title: str
) -> dict[str, float]:
    found = [
        [change for change in _detect(logs) if change.is_worse and abs(change.at - injected_at) <= NEARBY]
        for logs in series
    ]
    return {
        found_title: _fraction_with(found, "confirmed", "suspected"),
        confirmed_title: _fraction_with(found, "confirmed"),
    }


def _detect(logs: Values) -> list[Change]:
    """Detect the changes of logarithms by commit, or by commit and process."""
    values = np.exp(logs)
    points = tuple(
        CommitPoint(Commit(str(at)), tuple(runs)) for at, runs in enumerate(values.reshape(len(values), -1).tolist())
    )
    return find_changes(Series(BenchmarkId("simulated", "simulated"), SECONDS, "none", points))


def _fraction_with(series: list[list[Change]], *kinds: str) -> float:
    return sum(any(change.kind in kinds for change in changes) for changes in series) / len(series)
