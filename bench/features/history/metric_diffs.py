"""Comparison of two sides' measurements: times and memory by statistics, counters exactly."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.console.console import DISAGREEMENT, INCONCLUSIVE, OK
from bench.measure.observations import BenchmarkId, Metric, Observation
from bench.statistics.ratios import RateByRound, Ratio, compare_rate_pairs
from bench.tables.formats import format_quantity
from bench.tables.tables import Table

Key = tuple[BenchmarkId, Metric]
Verdict = Literal["worse", "better", "equal", "no difference", "inconclusive"]
NOTE = (
    "old, new: median of the processes' medians. low, high: 95 % interval of new/old, over pairs of processes.\n"
    "p: Student's, of paired differences, adjusted for all times of the table (Holm).\n"
    "Worse or better: p at most 0.01 and a change of 2 % or more; a counter is exact."
)


@dataclass(frozen=True, slots=True)
class MetricDiff:
    """A metric of both sides, with one value per process."""

    benchmark: BenchmarkId
    metric: Metric
    old: Sequence[float]
    new: Sequence[float]
    verdict: Verdict
    ratio: Ratio | None  # of new over old; None for a counter

    def format_side(self, side: Sequence[float]) -> str:
        """Format a side's median, of a counter with every digit."""
        if self.metric.is_counter:
            return f"{median(side):,.17g} {self.metric.unit}".strip()
        return format_quantity(median(side), self.metric.unit)


def compare_observations(
    old: Sequence[Observation], new: Sequence[Observation]
) -> list[MetricDiff]:
    """Compare every metric that both sides have; ValueError if there is none.

    Counters are compared exactly, the others by the medians of the processes. The processes of both sides were
    interleaved and are in that order: p is Student's on the differences of pairs, adjusted for their number.
    """
    old_values = _values_by_metric(old)
    new_values = _values_by_metric(new)
    common = [key for key in old_values if key in new_values]
    if not common:
        raise ValueError("nothing was compared: the two sides have no metric in common")
    pairs: dict[str, tuple[RateByRound, RateByRound]] = {}
    for key in common:
        if not key[1].is_counter:
            old_rounds = dict(enumerate(old_values[key]))
            new_rounds = dict(enumerate(new_values[key]))
            pairs[str(key)] = (old_rounds, new_rounds)
    ratios = compare_rate_pairs(pairs)
    diffs = []
    for key in common:
        ratio = ratios.get(str(key))
        diffs.append(_diff(key, old_values[key], new_values[key], ratio))
    return diffs


def _values_by_metric(observations: Sequence[Observation]) -> dict[Key, list[float]]:
    """Return the values of every metric, in the order of the processes."""
    values = defaultdict[Key, list[float]](list)
    for observation in observations:
        values[observation.benchmark, observation.metric].append(observation.value)
    return values


def _diff(key: Key, old: list[float], new: list[float], ratio: Ratio | None) -> MetricDiff:
    """Return a metric of both sides with its verdict."""
    benchmark, metric = key
    verdict = _judge_counter(metric, old, new) if ratio is None else _judge_ratio(metric, ratio)
    return MetricDiff(benchmark, metric, old, new, verdict, ratio)


def _judge_counter(metric: Metric, old: Sequence[float], new: Sequence[float]) -> Verdict:
    """Compare a counter exactly; it is inconclusive if it varies within a side."""
    if len(set(old)) > 1 or len(set(new)) > 1:
        return "inconclusive"
    if old[0] == new[0]:
        return "equal"
    return _judge_change(metric, is_larger=new[0] > old[0])


def _judge_ratio(metric: Metric, ratio: Ratio) -> Verdict:
    """Return the verdict on a ratio of new over old; "faster" is a larger new value."""
    if ratio.verdict == "no difference":
        return "no difference"
    if ratio.verdict in ("faster", "slower"):
        return _judge_change(metric, is_larger=ratio.verdict == "faster")
    return "inconclusive"


def _judge_change(metric: Metric, *, is_larger: bool) -> Verdict:
    direction = "more" if is_larger else "less"
    return "better" if metric.better == direction else "worse"


def unmatched_metrics(old: Sequence[Observation], new: Sequence[Observation]) -> list[str]:
    """List the metrics that only one side has."""
    old_names = {f"{value.benchmark.name}, {value.metric.name}" for value in old}
    new_names = {f"{value.benchmark.name}, {value.metric.name}" for value in new}
    lines = [f"{name} (only before)" for name in sorted(old_names - new_names)]
    return lines + [f"{name} (only after)" for name in sorted(new_names - old_names)]


def verdict_exit_code(diffs: Sequence[MetricDiff]) -> int:
    """Return the exit code: 1 if a metric is worse, 4 if one is inconclusive, else 0."""
    verdicts = {diff.verdict for diff in diffs}
    if "worse" in verdicts:
        return DISAGREEMENT
    if "inconclusive" in verdicts:
        return INCONCLUSIVE
    return OK


def diff_table(diffs: Sequence[MetricDiff], notes: Sequence[str] = ()) -> Table:
    """List times, memory and changed counters, with further notes."""
    rows = []
    num_equal = 0
    for diff in diffs:
        if diff.verdict == "equal":
            num_equal += 1
            continue
        ratio = diff.ratio
        row = {
            "part": f"{diff.benchmark.short}, {diff.metric.name}",
            "old": diff.format_side(diff.old),
            "new": diff.format_side(diff.new),
            "new/old": ratio.value if ratio else None,
            "low": ratio.low if ratio else None,
            "high": ratio.high if ratio else None,
            "p": ratio.p if ratio else None,
            "runs": f"{len(diff.old)} + {len(diff.new)}",
            "verdict": diff.verdict,
        }
        rows.append(row)
    num_counters = sum(diff.metric.is_counter for diff in diffs)
    equal = f"{num_equal} of {num_counters} counters (parameters, FLOPs, tensor bytes, losses) are exactly equal."
    return Table.from_dicts("New against old", rows, "\n".join([NOTE, equal, *notes]))


def describe_diffs(diffs: Sequence[MetricDiff]) -> str:
    """Name each worse metric in one line, or report that there is none."""
    lines = []
    for diff in diffs:
        if diff.verdict == "worse":
            levels = f"{diff.format_side(diff.old)} to {diff.format_side(diff.new)}"
            lines.append(f"regressed: {diff.benchmark.name}: {diff.metric.name}, {levels}")
    return "\n".join(lines or ["no regression was found"])
