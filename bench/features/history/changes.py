"""Changes of a series over commits: confirmed by asv's step detection, suspected by change points with a test.

A counter needs neither: it is equal on every run of the same code, so any difference is a change.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

import numpy as np
from scipy import stats

from bench.measure.observations import Commit
from bench.statistics.ratios import SMALLEST_EFFECT
from bench.tables.formats import format_quantity
from reports.series import Series

ChangeKind = Literal["confirmed", "suspected", "counted"]
FEWEST_SUSPECTED = 3  # processes on each side of a suspected change
# Of a change between commits: processes on each side, relative size, upper bound of p (Mann-Whitney).
CHANGE_LIMITS: Mapping[ChangeKind, tuple[int, float, float]] = {
    "confirmed": (2, SMALLEST_EFFECT, math.inf),  # one process alone may be an accident; step detection replaces p
    "suspected": (FEWEST_SUSPECTED, 0.03, 0.001),
}
PENALTY = 3.0  # per change point, in units of the variance of the noise x ln(n)
NEARBY = 2  # points; a suspected change so near to a confirmed one is the same change
MISSING = "charts over commits need asv and ruptures: python -m pip install -e '.[history]'"


def is_change(kind: ChangeKind, old: float, new: float, processes: tuple[int, int], p: float) -> bool:
    """Judge a jump of a series between two commits; `processes` are those before and after it."""
    fewest, smallest, below_p = CHANGE_LIMITS[kind]
    return min(processes) >= fewest and abs(math.log(new / old)) >= math.log1p(smallest) and p < below_p


@dataclass(frozen=True, slots=True)
class Change:
    """A jump between two successive commits of a series."""

    series: Series
    kind: ChangeKind
    at: int  # index of the first point after it
    old: float  # level before it, the median over processes
    new: float
    p: float | None  # Mann-Whitney, corrected for autocorrelation; None for a counter
    sides: tuple[int, int]  # processes before and after, up to the adjacent changes

    @property
    def size(self) -> float | None:
        """The new level over the old one; None for an old level of 0."""
        return self.new / self.old if self.old else None

    @property
    def before(self) -> Commit:
        """The last commit before the change."""
        return self.series.points[self.at - 1].commit

    @property
    def after(self) -> Commit:
        """The first commit after it; the cause is a commit after `before`, up to and including this one."""
        return self.series.points[self.at].commit

    @property
    def text(self) -> str:
        """Levels, size, commits and p in one line."""
        old, new = (format_quantity(value, self.series.metric.unit) for value in (self.old, self.new))
        size = f" ({self.size:.2f} times)" if self.size is not None else ""
        p = f", p {self.p:.2g}" if self.p is not None else ""
        return f"{old} to {new}{size} after {self.before.short}, by {self.after.short}{p}"

    @property
    def is_worse(self) -> bool:
        """Whether the change is for the worse; every change of a counter without a better direction is."""
        better = self.series.metric.better
        return better == "same" or (self.new > self.old) == (better == "less")


def find_changes(line: Series) -> list[Change]:
    """Return the changes of a series, oldest first."""
    if line.metric.is_counter:
        return _counter_changes(line)
    values, _ = line.processes()
    if min(values) <= 0:
        raise ValueError(f"{line.benchmark.name}: {line.metric.name} must be positive, got {min(values)}")
    confirmed = _changes_at(line, "confirmed", _asv_steps(values))
    suspected = [
        change
        for change in _changes_at(line, "suspected", _pelt_change_points(values))
        if all(abs(change.at - other.at) > NEARBY for other in confirmed)
    ]
    return sorted([*confirmed, *suspected], key=lambda change: change.at)


def _counter_changes(line: Series) -> list[Change]:
    found = []
    for at, (before, after) in enumerate(pairwise(line.points), start=1):
        old, new = {*before.runs}, {*after.runs}
        if old != new and len(old) == len(new) == 1:  # a counter that varies within a commit is ignored
            sides = len(before.runs), len(after.runs)
            found.append(Change(line, "counted", at, before.value, after.value, None, sides))
    return found


def _changes_at(line: Series, kind: ChangeKind, boundaries: Sequence[int]) -> list[Change]:
    """Return the changes at these indices of processes, each moved to the nearest boundary between two commits."""
    values, points = line.processes()
    starts = sorted({_nearest_commit_start(boundary, points) for boundary in boundaries} - {0, len(values)})
    edges = [0, *starts, len(values)]
    autocorrelation = _autocorrelation(values, edges)
    found = []
    for left, start, right in zip(edges, edges[1:], edges[2:], strict=False):
        before, after = values[left:start], values[start:right]
        old, new, sides = median(before), median(after), (len(before), len(after))
        p = mann_whitney_p(before, after, autocorrelation)
        if is_change(kind, old, new, sides, p):
            found.append(Change(line, kind, points[start], old, new, p, sides))
    return found


def _nearest_commit_start(boundary: int, points: Sequence[int]) -> int:
    """Return the nearest index at which the processes of a commit begin."""
    starts = [points.index(point) for point in dict.fromkeys(points)]
    return min([*starts, len(points)], key=lambda start: abs(start - boundary))


def _asv_steps(values: Sequence[float]) -> list[int]:
    """Return the jumps of asv's fit of a piecewise constant function.

    Source: asv.step_detect, after Friedrich et al. 2008, "Complexity penalized M-estimation: fast computation",
    J. Comput. Graph. Stat. 17.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from asv's own imports
            from asv.step_detect import detect_steps
    except ModuleNotFoundError as error:
        raise ValueError(MISSING) from error
    return [step[0] for step in detect_steps(list(values))[1:]]


def _pelt_change_points(values: Sequence[float]) -> list[int]:
    """Return the change points of the mean of the logarithms, by PELT.

    The noise is estimated from successive differences, which a few jumps hardly affect.

    Source: Killick et al. 2012, "Optimal detection of changepoints with a linear computational cost", JASA 107.
    """
    try:
        from ruptures import KernelCPD
    except ModuleNotFoundError as error:
        raise ValueError(MISSING) from error
    logs = np.log(values)
    if len(logs) < 2 * FEWEST_SUSPECTED:
        return []
    steps = np.diff(logs)
    noise = float(np.median(np.abs(steps - np.median(steps)))) * 1.4826 / math.sqrt(2)
    if noise == 0:
        noise = float(np.std(steps)) or 1.0
    fitted = KernelCPD(kernel="linear", min_size=FEWEST_SUSPECTED).fit((logs / noise).reshape(-1, 1))
    return list(fitted.predict(pen=PENALTY * math.log(len(logs)))[:-1])


def _autocorrelation(values: Sequence[float], edges: Sequence[int]) -> float:
    """Return the lag-1 autocorrelation of the residuals about the levels, clipped to 0 and 0.9."""
    residuals = np.concatenate([np.array(values[a:b]) - median(values[a:b]) for a, b in pairwise(edges)])
    total = float(residuals @ residuals)
    return min(max(float(residuals[1:] @ residuals[:-1]) / total, 0.0), 0.9) if total else 0.0


def mann_whitney_p(before: Sequence[float], after: Sequence[float], autocorrelation: float = 0.0) -> float:
    """Return the two-sided p of the Mann-Whitney test, corrected for lag-1 autocorrelation.

    z is divided by the factor by which autocorrelation increases the standard error of a mean.
    """
    p = float(stats.mannwhitneyu(before, after, alternative="two-sided").pvalue)
    z = float(stats.norm.isf(p / 2)) * math.sqrt((1 - autocorrelation) / (1 + autocorrelation))
    return float(2 * stats.norm.sf(z))
