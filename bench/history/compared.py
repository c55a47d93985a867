"""Figures of two sides -> what became slower, larger, or another number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.console.exit_codes import DISAGREEMENT, INCONCLUSIVE, OK
from bench.console.tables import Table
from bench.history.figures import Figure, Measure, Subject
from bench.history.quantities import exactly, quantity
from bench.statistics import Ratio, ratios_of_pairs

Key = tuple[Subject, Measure]
OF_BYTES = {"faster": "smaller", "slower": "larger"}  # what a verdict is called where the figure is no time


@dataclass(frozen=True, slots=True)
class Judged:
    """One figure on both sides. `change` is new / old of the figure itself, with its interval."""

    subject: Subject
    measure: Measure
    old: tuple[float, ...]  # of each process
    new: tuple[float, ...]
    change: float | None  # None: a counter that was 0
    low: float | None
    high: float | None
    p: float | None  # adjusted for the number of times and memories compared; None for a counter
    verdict: str
    is_worse: bool

    @property
    def name(self) -> str:
        """Benchmark or experiment, and what was counted where that is no time."""
        of_speed = self.measure.unit in ("s", "images/s")
        return self.subject.short if of_speed else f"{self.subject.short}, {self.measure.name}"

    def told(self, side: Sequence[float]) -> str:
        """Write a side's median, of a counter with every digit."""
        return (exactly if self.measure.is_counter else quantity)(median(side), self.measure.unit)


def compared(old: Sequence[Figure], new: Sequence[Figure], *, paired: bool) -> list[Judged]:
    """Judge every figure that both sides have: counters exactly, the others by the processes' medians, all at once.

    `paired`: the processes of the sides took turns, and stand in that order; p is Student's on their differences, for
    eight rounds have too few signs to call one of 25 parts. Else it is of a permutation. ValueError where nothing is on
    both sides.
    """
    before, after = by_key(old), by_key(new)
    common = [key for key in before if key in after]
    if not common:
        raise ValueError("nothing was compared: the two sides have no figure in common")
    varying = [key for key in common if not key[1].is_counter]
    rates = {str(at): _rates(key, before, after, paired) for at, key in enumerate(varying)}
    ratios = ratios_of_pairs(rates, exact=not paired)
    judged = [_judged(key, before[key], after[key], ratio) for key, ratio in zip(varying, ratios.values(), strict=True)]
    return judged + [_counted(key, before[key], after[key]) for key in common if key[1].is_counter]


def by_key(figures: Sequence[Figure]) -> dict[Key, list[float]]:
    """Return the values of every figure, in the order of the processes."""
    found: dict[Key, list[float]] = {}
    for figure in figures:
        found.setdefault((figure.subject, figure.measure), []).append(figure.value)
    return found


def on_one_side(old: Sequence[Figure], new: Sequence[Figure]) -> list[str]:
    """Name what cannot be compared, for one side alone has it: a part, or a figure of a part that both have."""
    before, after = ({(figure.subject.name, figure.measure.name) for figure in side} for side in (old, new))
    common = {part for part, _ in before} & {part for part, _ in after}

    def told(alone: set[tuple[str, str]], when: str) -> list[str]:
        names = {f"{part}, {measure}" if part in common else part for part, measure in alone}
        return [f"{name} (only {when})" for name in sorted(names)]

    return told(before - after, "before") + told(after - before, "after")


def ended(judged: Sequence[Judged]) -> int:
    """Return the exit code: 1 where something is worse, 4 where something could not be told, else 0."""
    if any(one.is_worse for one in judged):
        return DISAGREEMENT
    return INCONCLUSIVE if any(one.verdict == "inconclusive" for one in judged) else OK


def compared_table(judged: Sequence[Judged], *, paired: bool) -> Table:
    """List times and memory, and of the counters those that changed; `paired` as `compared` was told."""
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
    of = (
        "Student's, of the differences of pairs in turn (under five: of a permutation)"
        if paired
        else "of a permutation"
    )
    note = (
        "old, new: median of the processes' medians. low, high: 95 % interval of new/old, over processes.\n"
        f"p: {of}, adjusted for all times of the table (Holm).\n"
        "Slower or faster: p at most .01 and 2 %.\n"
        f"{same} of {len(counters)} counters (parameters, FLOPs, tensor bytes, losses) are equal, to the last digit."
    )
    return Table("New against old", rows, note)


def told_worse(judged: Sequence[Judged]) -> list[str]:
    """Say in one line each what is worse."""
    return [_told(one) for one in judged if one.is_worse]


def told_none(judged: Sequence[Judged]) -> str:
    """Say in one line that nothing is worse, and of how many that could not be told."""
    open_ = sum(one.verdict == "inconclusive" for one in judged)
    return "no regression was found" + (f"; inconclusive: {open_} of {len(judged)} figures" if open_ else "")


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
    """Return both sides' rates, more being better, under the same numbers where they are of the same round.

    The values of a side stand in the order of rounds.
    """
    old, new = (
        [value if key[1].better == "more" else 1 / _positive(value, key) for value in side[key]]
        for side in (before, after)
    )
    are_pairs = paired and len(old) == len(new)  # else one is missing, and nobody knows of which round
    return dict(enumerate(old)), dict(enumerate(new, start=0 if are_pairs else len(old)))


def _positive(value: float, key: Key) -> float:
    if not value > 0:
        raise ValueError(f"{key[0].name}: {key[1].name} is {value}, which cannot be compared")
    return value


def _judged(key: Key, old: Sequence[float], new: Sequence[float], ratio: Ratio) -> Judged:
    change, low, high = ratio.value, ratio.low, ratio.high
    if key[1].better == "less":
        change, low, high = 1 / change, high and 1 / high, low and 1 / low
    words = OF_BYTES if key[1].unit == "B" else {}
    verdict: str = words.get(ratio.verdict, ratio.verdict)
    return Judged(*key, tuple(old), tuple(new), change, low, high, ratio.p, verdict, ratio.verdict == "slower")


def _counted(key: Key, old: Sequence[float], new: Sequence[float]) -> Judged:
    """Compare a counter; where it varies on one side by itself, nothing can be told."""
    before, after, measure = old[0], new[0], key[1]
    if len({*old}) > 1 or len({*new}) > 1:
        verdict, is_worse = "inconclusive", False
    elif before == after:
        verdict, is_worse = "equal", False
    elif measure.better == "same":
        verdict, is_worse = "changed", True
    else:
        verdict, is_worse = ("more" if after > before else "less"), (after > before) == (measure.better == "less")
    change = after / before if before else None
    return Judged(*key, tuple(old), tuple(new), change, None, None, None, verdict, is_worse)
