"""Comparison of two sides' measurements: times and memory by statistics, counters exactly."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.console.console import DISAGREEMENT, INCONCLUSIVE, OK
from bench.measure.observations import BenchmarkId, Metric, Observation
from bench.statistics.ratios import Ratio, ratios_of_pairs
from bench.tables.formats import format_quantity
from bench.tables.tables import Table

Key = tuple[BenchmarkId, Metric]
OF_BYTES = {"faster": "smaller", "slower": "larger"}  # verdicts on memory


def format_exactly(value: float, unit: str) -> str:
    """Format a value with every digit."""
    return f"{value:,.17g} {unit}".strip()


@dataclass(frozen=True, slots=True)
class MetricDiff:
    """A metric of both sides; `ratio` is new over old, with its interval."""

    benchmark: BenchmarkId
    metric: Metric
    old: tuple[float, ...]  # one value per process
    new: tuple[float, ...]
    ratio: float | None  # new over old; None for a counter that was 0
    low: float | None
    high: float | None
    p: float | None  # adjusted for the number of compared times and memories; None for a counter
    verdict: str
    is_worse: bool

    @property
    def name(self) -> str:
        """The benchmark or experiment, and the metric if it is no speed."""
        of_speed = self.metric.unit in ("s", "images/s")
        return self.benchmark.short if of_speed else f"{self.benchmark.short}, {self.metric.name}"

    def format_side(self, side: Sequence[float]) -> str:
        """Format a side's median, of a counter with every digit."""
        return (format_exactly if self.metric.is_counter else format_quantity)(median(side), self.metric.unit)


def compare_observations(old: Sequence[Observation], new: Sequence[Observation], *, paired: bool) -> list[MetricDiff]:
    """Compare every metric that both sides have; ValueError if there is none.

    Counters are compared exactly, the others by the processes' medians, adjusted for their number. With `paired` the
    processes of both sides were interleaved and are in that order; p is Student's on their differences, because eight
    rounds have too few signs for 25 benchmarks. Otherwise p is of a permutation test.
    """
    before, after = _values_by_key(old), _values_by_key(new)
    common = [key for key in before if key in after]
    if not common:
        raise ValueError("nothing was compared: the two sides have no metric in common")
    varying = [key for key in common if not key[1].is_counter]
    rates = {str(at): _rates(key, before, after, paired) for at, key in enumerate(varying)}
    ratios = ratios_of_pairs(rates)
    diffs = [_diff(key, before[key], after[key], ratio) for key, ratio in zip(varying, ratios.values(), strict=True)]
    return diffs + [_diff_counter(key, before[key], after[key]) for key in common if key[1].is_counter]


def _values_by_key(observations: Sequence[Observation]) -> dict[Key, list[float]]:
    """Return the values of every metric, in the order of the processes."""
    values = defaultdict[Key, list[float]](list)
    for one in observations:
        values[one.benchmark, one.metric].append(one.value)
    return values


def describe_unmatched_metrics(old: Sequence[Observation], new: Sequence[Observation]) -> list[str]:
    """List benchmarks, and metrics of common benchmarks, that only one side has."""
    before, after = ({(one.benchmark.name, one.metric.name) for one in side} for side in (old, new))
    common = {benchmark for benchmark, _ in before} & {benchmark for benchmark, _ in after}
    lines = []
    for missing, side in ((before - after, "before"), (after - before, "after")):
        names = {f"{benchmark}, {metric}" if benchmark in common else benchmark for benchmark, metric in missing}
        lines += [f"{name} (only {side})" for name in sorted(names)]
    return lines


def verdict_exit_code(judged: Sequence[MetricDiff]) -> int:
    """Return the exit code: 1 if a metric is worse, 4 if one is inconclusive, else 0."""
    if any(one.is_worse for one in judged):
        return DISAGREEMENT
    return INCONCLUSIVE if any(one.verdict == "inconclusive" for one in judged) else OK


def diff_table(judged: Sequence[MetricDiff], notes: Sequence[str] = (), *, paired: bool) -> Table:
    """List times, memory and changed counters, with further notes; `paired` as in `compare_observations`."""
    counters = [one for one in judged if one.metric.is_counter]
    same = sum(one.verdict == "equal" for one in counters)
    rows = [
        {
            "part": one.name,
            "old": one.format_side(one.old),
            "new": one.format_side(one.new),
            "new/old": one.ratio,
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
    return Table.of_figures("New against old", rows, "\n".join([note, *notes]))


def describe_diffs(judged: Sequence[MetricDiff]) -> str:
    """Describe each worse metric in one line, or report that there is none, and the number of inconclusive ones."""
    if worse := [_describe_worse(one) for one in judged if one.is_worse]:
        return "\n".join(worse)
    inconclusive = sum(one.verdict == "inconclusive" for one in judged)
    addition = f"; inconclusive: {inconclusive} of {len(judged)} metrics" if inconclusive else ""
    return f"no regression was found{addition}"


def _describe_worse(diff: MetricDiff) -> str:
    before, after = diff.format_side(diff.old), diff.format_side(diff.new)
    if diff.metric.is_counter:
        return f"regressed: {diff.benchmark.name}: {diff.metric.name} went from {before} to {after}"
    interval = f"{diff.low:.2f} to {diff.high:.2f}, " if diff.low is not None and diff.high is not None else ""
    assert diff.ratio is not None
    size = f"{diff.ratio:.2f} times ({interval}p {diff.p:.4f})"
    return f"regressed: {diff.benchmark.name} is {diff.verdict}: {diff.metric.name} from {before} to {after}, {size}"


def _rates(
    key: Key, before: Mapping[Key, Sequence[float]], after: Mapping[Key, Sequence[float]], paired: bool
) -> tuple[dict[int, float], dict[int, float]]:
    """Return both sides' rates (more is better) numbered in the order of rounds, with equal numbers for pairs."""
    benchmark, metric = key
    if bad := [value for value in (*before[key], *after[key]) if not value > 0]:
        raise ValueError(f"{benchmark.name}: {metric.name} must be positive to be compared, got {bad[0]}")
    is_rate = metric.better == "more"
    old, new = ([value if is_rate else 1 / value for value in side[key]] for side in (before, after))
    are_pairs = paired and len(old) == len(new)  # else one is missing, of an unknown round
    return dict(enumerate(old)), dict(enumerate(new, start=0 if are_pairs else len(old)))


def _diff(key: Key, old: Sequence[float], new: Sequence[float], ratio: Ratio) -> MetricDiff:
    change, low, high = ratio.value, ratio.low, ratio.high
    if key[1].better == "less":
        change, low, high = 1 / change, high and 1 / high, low and 1 / low
    verdict = OF_BYTES.get(ratio.verdict, ratio.verdict) if key[1].unit == "B" else ratio.verdict
    return MetricDiff(*key, tuple(old), tuple(new), change, low, high, ratio.p, verdict, ratio.verdict == "slower")


def _diff_counter(key: Key, old: Sequence[float], new: Sequence[float]) -> MetricDiff:
    """Compare a counter; it is inconclusive if it varies within a side."""
    before, after, better = old[0], new[0], key[1].better
    is_worse = before != after and (better == "same" or (after > before) == (better == "less"))
    verdict = "equal" if before == after else "changed" if better == "same" else "more" if after > before else "less"
    if len({*old}) > 1 or len({*new}) > 1:
        verdict, is_worse = "inconclusive", False
    change = after / before if before else None
    return MetricDiff(*key, tuple(old), tuple(new), change, None, None, None, verdict, is_worse)
