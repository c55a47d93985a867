"""Jumps in a line over commits: confirmed by asv's step detection, suspected by change points that a test confirms.

A counter needs neither: it is the same on every run of the same code, so that any difference is a change.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

import numpy as np
from scipy import stats

from bench.history.figures import Commit
from bench.history.quantities import quantity
from bench.statistics import SMALLEST_EFFECT
from reports.history.series import Line

Kind = Literal["confirmed", "suspected", "counted"]
FEWEST = 2  # processes on each side of a confirmed change: one alone may be an accident
FEWEST_SUSPECTED = 3
SMALLEST_SUSPECTED = 0.03  # relative, between the medians of both sides
MOST_P = 0.001  # of Mann and Whitney's test, for a suspicion
PENALTY = 3.0  # of a change point, in units of the noise's variance x ln(n)
NEARBY = 2  # points within which a suspicion is the confirmed change itself
MISSING = "charts over commits need asv and ruptures: pip install -e '.[history]'"


@dataclass(frozen=True, slots=True)
class Change:
    """A jump between two commits that follow each other on a line."""

    line: Line
    kind: Kind
    at: int  # the first point after it
    old: float  # the level before, the median of the processes
    new: float
    p: float | None  # Mann and Whitney's, corrected for autocorrelation; None: a counter, or too few processes
    sides: tuple[int, int]  # processes before and after, up to the next change

    @property
    def size(self) -> float | None:
        """How many times the old level the new one is; None: it was 0."""
        return self.new / self.old if self.old else None

    @property
    def before(self) -> Commit:
        """The last commit before it."""
        return self.line.points[self.at - 1].commit

    @property
    def after(self) -> Commit:
        """The first commit with it: what changed is one of the commits after `before` up to this one."""
        return self.line.points[self.at].commit

    @property
    def told(self) -> str:
        """Levels, size and place in a line of text."""
        old, new = (quantity(value, self.line.measure.unit) for value in (self.old, self.new))
        size = f" ({self.size:.2f} times)" if self.size is not None else ""
        p = f", p {self.p:.2g}" if self.p is not None else ""
        return f"{old} to {new}{size} after {self.before.short}, by {self.after.short}{p}"

    @property
    def is_worse(self) -> bool:
        """Whether it is one for the worse; of a counter without a good direction every one is."""
        better = self.line.measure.better
        return better == "same" or (self.new > self.old) == (better == "less")


def changes_of(line: Line) -> list[Change]:
    """Return a line's changes, oldest first."""
    if line.measure.is_counter:
        return _counted(line)
    values, _ = line.processes()
    if min(values) <= 0:
        raise ValueError(f"{line.subject.name}: {line.measure.name} is not always positive")
    confirmed = _changes(line, "confirmed", _steps(values), FEWEST)
    suspected = [
        change
        for change in _changes(line, "suspected", _change_points(values), FEWEST_SUSPECTED)
        if change.p is not None
        and change.p < MOST_P
        and abs(math.log(change.new / change.old)) >= math.log1p(SMALLEST_SUSPECTED)
        and all(abs(change.at - sure.at) > NEARBY for sure in confirmed)
    ]
    return sorted([*confirmed, *suspected], key=lambda change: change.at)


def _counted(line: Line) -> list[Change]:
    found = []
    for at, (before, after) in enumerate(pairwise(line.points), start=1):
        old, new = {*before.runs}, {*after.runs}
        if old != new and len(old) == len(new) == 1:  # one that varies by itself tells nothing
            sides = len(before.runs), len(after.runs)
            found.append(Change(line, "counted", at, before.value, after.value, None, sides))
    return found


def _changes(line: Line, kind: Kind, boundaries: Sequence[int], fewest: int) -> list[Change]:
    """Return the changes at these places in the row of processes, moved to where one commit ends and another begins."""
    values, points = line.processes()
    starts = sorted({_moved(boundary, points) for boundary in boundaries} - {0, len(values)})
    edges = [0, *starts, len(values)]
    autocorrelation = _autocorrelation(values, edges)
    found = []
    for left, start, right in zip(edges, edges[1:], edges[2:], strict=False):
        before, after = values[left:start], values[start:right]
        old, new, sides = median(before), median(after), (len(before), len(after))
        if min(sides) >= fewest and abs(math.log(new / old)) >= math.log1p(SMALLEST_EFFECT):
            p = mann_whitney_p(before, after, autocorrelation)
            found.append(Change(line, kind, points[start], old, new, p, sides))
    return found


def _moved(boundary: int, points: Sequence[int]) -> int:
    """Return the nearest place where the processes of a commit begin."""
    begins = [at for at in range(len(points)) if at == 0 or points[at] != points[at - 1]]
    return min([*begins, len(points)], key=lambda at: abs(at - boundary))


def _steps(values: Sequence[float]) -> list[int]:
    """Return where asv's fit of a piecewise constant function jumps.

    Source: asv.step_detect, after Friedrich et al. 2008, "Complexity penalized M-estimation: fast computation",
    J. Comput. Graph. Stat. 17.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # asv's own imports
            from asv.step_detect import detect_steps
    except ModuleNotFoundError as error:
        raise ValueError(MISSING) from error
    return [step[0] for step in detect_steps(list(values))[1:]]


def _change_points(values: Sequence[float]) -> list[int]:
    """Return where the mean of the logarithms changes, by PELT.

    The noise is taken from the differences of neighbours, which a few jumps do not disturb.

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
    """Return how alike neighbours' distances from their level are, 0 to .9."""
    residues = np.concatenate([np.array(values[a:b]) - median(values[a:b]) for a, b in pairwise(edges)])
    total = float(residues @ residues)
    return min(max(float(residues[1:] @ residues[:-1]) / total, 0.0), 0.9) if total else 0.0


def mann_whitney_p(before: Sequence[float], after: Sequence[float], autocorrelation: float = 0.0) -> float:
    """Return the p of both sides being alike; neighbours that are alike count for fewer.

    The test's z is made smaller by what autocorrelation does to the spread of a mean.
    """
    p = float(stats.mannwhitneyu(before, after, alternative="two-sided").pvalue)
    z = float(stats.norm.isf(p / 2)) * math.sqrt((1 - autocorrelation) / (1 + autocorrelation))
    return float(2 * stats.norm.sf(z))
