"""Comparison of two sides' measurements: times and memory by statistics, counters exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.console.exit_codes import DISAGREEMENT, INCONCLUSIVE, OK
from bench.console.tables import Table
from bench.history.figures import Figure, Measure, Subject
from bench.history.quantities import exactly, quantity
from bench.statistics import Ratio, ratios_of_pairs

Key = tuple[Subject, Measure]
OF_BYTES = {"faster": "smaller", "slower": "larger"}  # verdicts on memory


@dataclass(frozen=True, slots=True)
class Judged:
    """A metric of both sides; `change` is new / old, with its interval."""

    subject: Subject
    measure: Measure
    old: tuple[float, ...]  # one value per process
    new: tuple[float, ...]
    change: float | None  # None for a counter that was 0
    low: float | None
    high: float | None
    p: float | None  # adjusted for the number of compared times and memories; None for a counter
    verdict: str
    is_worse: bool

    @property
    def name(self) -> str:
        """The benchmark or experiment, and the metric if it is no speed."""
        of_speed = self.measure.unit in ("s", "images/s")
        return self.subject.short if of_speed else f"{self.subject.short}, {self.measure.name}"

    def told(self, side: Sequence[float]) -> str:
        """Format a side's median, of a counter with every digit."""
        return (exactly if self.measure.is_counter else quantity)(median(side), self.measure.unit)


def compared(old: Sequence[Figure], new: Sequence[Figure], *, paired: bool) -> list[Judged]:
    """Compare every metric that both sides have; ValueError if there is none.

    Counters are compared exactly, the others by the processes' medians, adjusted for their number. With `paired` the
    processes of both sides were interleaved and are in that order; p is Student's on their differences, because eight
    rounds have too few signs for 25 benchmarks. Otherwise p is of a permutation test.
    """
    before, after = by_key(old), by_key(new)
    common = [key for key in before if key in after]
    if not common:
        raise ValueError("nothing was compared: the two sides have no metric in common")
    varying = [key for key in common if not key[1].is_counter]
    rates = {str(at): _rates(key, before, after, paired) for at, key in enumerate(varying)}
    ratios = ratios_of_pairs(rates, exact=not paired)
    judged = [_judged(key, before[key], after[key], ratio) for key, ratio in zip(varying, ratios.values(), strict=True)]
    return judged + [_counted(key, before[key], after[key]) for key in common if key[1].is_counter]


def by_key(figures: Sequence[Figure]) -> dict[Key, list[float]]:
    """Return the values of every metric, in the order of the processes."""
    found: dict[Key, list[float]] = {}
    for figure in figures:
        found.setdefault((figure.subject, figure.measure), []).append(figure.value)
    return found


def on_one_side(old: Sequence[Figure], new: Sequence[Figure]) -> list[str]:
    """List benchmarks, and metrics of common benchmarks, that only one side has."""
    before, after = ({(figure.subject.name, figure.measure.name) for figure in side} for side in (old, new))
    common = {part for part, _ in before} & {part for part, _ in after}
    found = []
    for alone, side in ((before - after, "before"), (after - before, "after")):
        names = {f"{part}, {measure}" if part in common else part for part, measure in alone}
        found += [f"{name} (only {side})" for name in sorted(names)]
    return found


def ended(judged: Sequence[Judged]) -> int:
    """Return the exit code: 1 if a metric is worse, 4 if one is inconclusive, else 0."""
    if any(one.is_worse for one in judged):
        return DISAGREEMENT
    return INCONCLUSIVE if any(one.verdict == "inconclusive" for one in judged) else OK


def compared_table(judged: Sequence[Judged], *, paired: bool) -> Table:
    """List times, memory and changed counters; `paired` as in `compared`."""
    counters = [one for one in judged if one.measure.is_counter]
    same = sum(one.verdict == "equal" for one in counters)
    rows = [
        {
            "part": one.name,
            "old": one.told(one.old),
            "new": one.told(one.new),
            "new/old": one.change,
            "low": one.low,
            "high": one.high,
            "p": one.p,
            "runs": f"{len(one.old)} + {len(one.new)}",
            "verdict": one.verdict,
        }
        for one in judged
        if one.verdict != "equal"
    ]
    permutation = "of a permutation test"
    test = f"Student's, of paired differences (under five pairs {permutation})" if paired else permutation
    note = (
        "old, new: median of the processes' medians. low, high: 95 % interval of new/old, over processes.\n"
        f"p: {test}, adjusted for all times of the table (Holm).\n"
        "Slower or faster: p at most 0.01 and a change of 2 % or more.\n"
        f"{same} of {len(counters)} counters (parameters, FLOPs, tensor bytes, losses) are equal to the last digit."
    )
    return Table("New against old", rows, note)


def told_worse(judged: Sequence[Judged]) -> list[str]:
    """Describe each worse metric in one line."""
    return [_told(one) for one in judged if one.is_worse]


def told_none(judged: Sequence[Judged]) -> str:
    """Report in one line that no metric is worse, and the number of inconclusive ones."""
    open_ = sum(one.verdict == "inconclusive" for one in judged)
    return "no regression was found" + (f"; inconclusive: {open_} of {len(judged)} metrics" if open_ else "")


def _told(one: Judged) -> str:
    before, after = one.told(one.old), one.told(one.new)
    if one.measure.is_counter:
        return f"regressed: {one.subject.name}: {one.measure.name} went from {before} to {after}"
    interval = f"{one.low:.2f} to {one.high:.2f}, " if one.low is not None and one.high is not None else ""
    assert one.change is not None
    size = f"{one.change:.2f} times ({interval}p {one.p:.4f})"
    return f"regressed: {one.subject.name} is {one.verdict}: {one.measure.name} from {before} to {after}, {size}"


def _rates(
    key: Key, before: Mapping[Key, Sequence[float]], after: Mapping[Key, Sequence[float]], paired: bool
) -> tuple[dict[int, float], dict[int, float]]:
    """Return both sides' rates (more is better), with equal numbers for processes of one round.

    Values are in the order of rounds.
    """
    sides = []
    for values in (before[key], after[key]):
        if bad := [value for value in values if not value > 0]:
            raise ValueError(f"{key[0].name}: {key[1].name} must be positive to be compared, got {bad[0]}")
        sides.append([value if key[1].better == "more" else 1 / value for value in values])
    old, new = sides
    are_pairs = paired and len(old) == len(new)  # else one is missing, of an unknown round
    return dict(enumerate(old)), dict(enumerate(new, start=0 if are_pairs else len(old)))


def _judged(key: Key, old: Sequence[float], new: Sequence[float], ratio: Ratio) -> Judged:
    change, low, high = ratio.value, ratio.low, ratio.high
    if key[1].better == "less":
        change, low, high = 1 / change, high and 1 / high, low and 1 / low
    words = OF_BYTES if key[1].unit == "B" else {}
    verdict: str = words.get(ratio.verdict, ratio.verdict)
    return Judged(*key, tuple(old), tuple(new), change, low, high, ratio.p, verdict, ratio.verdict == "slower")


def _counted(key: Key, old: Sequence[float], new: Sequence[float]) -> Judged:
    """Compare a counter; it is inconclusive if it varies within a side."""
    before, after, better = old[0], new[0], key[1].better
    is_worse = before != after and (better == "same" or (after > before) == (better == "less"))
    verdict = "equal" if before == after else "changed" if better == "same" else "more" if after > before else "less"
    if len({*old}) > 1 or len({*new}) > 1:
        verdict, is_worse = "inconclusive", False
    change = after / before if before else None
    return Judged(*key, tuple(old), tuple(new), change, None, None, None, verdict, is_worse)
