"""Comparison of two sides' measurements: times and memory by statistics, counters exactly."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.console.console import DISAGREEMENT, INCONCLUSIVE, OK
from bench.measure.metric_values import BenchmarkId, Metric, MetricValue
from bench.statistics.ratios import (
    ALPHA,
    MIN_RUNS,
    SMALLEST_EFFECT,
    RateByRound,
    RateRatio,
    compare_rate_pairs,
)
from bench.tables.formats import format_quantity
from bench.tables.tables import Table

BenchmarkMetric = tuple[BenchmarkId, Metric]
Verdict = Literal["worse", "better", "equal", "no difference", "inconclusive"]
NOTE = (
    "old, new: median of the processes' medians. low, high: 95 % interval of new/old, over pairs of processes.\n"
    "p: Student's, of paired differences, adjusted for all figures of the table but counters (Holm).\n"
    f"Worse or better: p at most {ALPHA:g} and a change of {SMALLEST_EFFECT:.0%} or more, in at least {MIN_RUNS} "
    "rounds; a counter is exact."
)


@dataclass(frozen=True, slots=True)
class MetricDiff:
    """A metric of a benchmark on both sides, with one value per process, and the verdict on their difference."""

    benchmark: BenchmarkId
    metric: Metric
    old: Sequence[float]
    new: Sequence[float]
    verdict: Verdict
    ratio: RateRatio | None  # of new over old; None for a counter

    def format_median(self, values: Sequence[float]) -> str:
        """Write the median of a side's values with the metric's unit; a counter has every digit."""
        if self.metric.is_counter:
            return f"{median(values):,.17g} {self.metric.unit}".strip()
        return format_quantity(median(values), self.metric.unit)


def compare_metric_values(
    old: Sequence[MetricValue], new: Sequence[MetricValue]
) -> list[MetricDiff]:
    """Compare every metric that both sides have; ValueError if there is none.

    Counters are compared exactly, the others by the medians of the processes. The processes of both sides were
    interleaved, in pairs of one turn; without turns they are paired in their order. p is Student's on the differences
    of pairs, adjusted for their number.
    """
    old_values = _values_by_benchmark_and_metric(old)
    new_values = _values_by_benchmark_and_metric(new)
    common = [key for key in old_values if key in new_values]
    if not common:
        raise ValueError("nothing was compared: the two sides have no metric in common")
    rates: dict[BenchmarkMetric, tuple[RateByRound, RateByRound]] = {}
    for key in common:
        _, metric = key
        if not metric.is_counter:
            rates[key] = (old_values[key], new_values[key])
    ratios = compare_rate_pairs(rates)
    diffs = []
    for key in common:
        ratio = ratios.get(key)
        sides = (list(old_values[key].values()), list(new_values[key].values()))
        benchmark, metric = key
        verdict = _judge_metric(metric, *sides, ratio)
        diffs.append(MetricDiff(benchmark, metric, *sides, verdict, ratio))
    return diffs


def _values_by_benchmark_and_metric(
    metric_values: Sequence[MetricValue],
) -> dict[BenchmarkMetric, RateByRound]:
    """Return the values by benchmark and metric, each by its turn, or without turns by the number of its process."""
    values = defaultdict[BenchmarkMetric, dict[str | int, float]](dict)
    for metric_value in metric_values:
        rounds = values[metric_value.benchmark, metric_value.metric]
        rounds[metric_value.turn or len(rounds)] = metric_value.value
    return {**values}


def _judge_metric(
    metric: Metric, old: Sequence[float], new: Sequence[float], ratio: RateRatio | None
) -> Verdict:
    """Return the verdict on new against old. `ratio` is None for a counter, inconclusive if it varies within a side."""
    if ratio is None:
        if len(set(old)) > 1 or len(set(new)) > 1:
            return "inconclusive"
        if old[0] == new[0]:
            return "equal"
        direction = "more" if new[0] > old[0] else "less"
    elif ratio.verdict in ("no difference", "inconclusive"):
        return ratio.verdict
    else:
        direction = "more" if ratio.verdict == "faster" else "less"
    return "better" if metric.better == direction else "worse"


def describe_unmatched_metrics(old: Sequence[MetricValue], new: Sequence[MetricValue]) -> list[str]:
    """Return the metrics that only one side has, each in words."""
    old_values = _values_by_benchmark_and_metric(old)
    new_values = _values_by_benchmark_and_metric(new)
    lines = []
    for key in old_values.keys() ^ new_values.keys():
        benchmark, metric = key
        side = "old" if key in old_values else "new"
        lines.append(f"{benchmark.name}, {metric.name} (only {side})")
    return sorted(lines)


def verdict_exit_code(diffs: Sequence[MetricDiff]) -> int:
    """Return the exit code: 1 if a metric is worse, 4 if one is inconclusive, else 0."""
    verdicts = {diff.verdict for diff in diffs}
    if "worse" in verdicts:
        return DISAGREEMENT
    if "inconclusive" in verdicts:
        return INCONCLUSIVE
    return OK


def diff_table(diffs: Sequence[MetricDiff], notes: Sequence[str] = ()) -> Table:
    """Return the table of times, memory and changed counters; `notes` are added to its note."""
    rows = []
    num_equal = 0
    for diff in diffs:
        if diff.verdict == "equal":
            num_equal += 1
            continue
        ratio = diff.ratio
        row = {
            "part": f"{diff.benchmark.name_without_file}, {diff.metric.name}",
            "old": diff.format_median(diff.old),
            "new": diff.format_median(diff.new),
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
