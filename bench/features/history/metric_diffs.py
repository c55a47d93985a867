"""Comparison of two sides' measurements: times and memory by statistics, counters exactly."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.console.console import DISAGREEMENT, INCONCLUSIVE, OK
from bench.measure.observations import BenchmarkId, Metric, Observation
from bench.statistics.ratios import Ratio, Rounds, ratios_of_pairs
from bench.tables.formats import format_quantity
from bench.tables.tables import Table

MEMORY_VERDICTS = {"faster": "smaller", "slower": "larger"}


@dataclass(frozen=True, slots=True)
class MetricDiff:
    """A metric of both sides; `ratio` is new over old, with its 95 % interval."""

    benchmark: BenchmarkId
    metric: Metric
    old: tuple[float, ...]  # one value per process
    new: tuple[float, ...]
    ratio: float | None  # None for a counter that was 0
    verdict: str
    is_worse: bool
    low: float | None = None
    high: float | None = None
    p: float | None = (
        None  # adjusted for the number of compared times and memories; None for a counter
    )

    @property
    def name(self) -> str:
        """The benchmark or experiment, and the metric if it is no speed."""
        is_speed = self.metric.unit in ("s", "images/s")
        return self.benchmark.short if is_speed else f"{self.benchmark.short}, {self.metric.name}"

    def format_side(self, side: Sequence[float]) -> str:
        """Format a side's median, of a counter with every digit."""
        if self.metric.is_counter:
            return f"{median(side):,.17g} {self.metric.unit}".strip()
        return format_quantity(median(side), self.metric.unit)

    def describe(self) -> str:
        """Return the change and its evidence in one line."""
        levels = f"{self.format_side(self.old)} to {self.format_side(self.new)}"
        if self.metric.is_counter:
            return f"{self.benchmark.name}: {self.metric.name} went from {levels}"
        interval = "" if self.low is None else f"{self.low:.2f} to {self.high:.2f}, "
        evidence = f"{self.ratio:.2f} times ({interval}p {self.p:.4f})"
        return (
            f"{self.benchmark.name} is {self.verdict}: {self.metric.name} from {levels}, {evidence}"
        )


def compare_observations(
    old: Sequence[Observation], new: Sequence[Observation], *, paired: bool
) -> list[MetricDiff]:
    """Compare every metric that both sides have; ValueError if there is none.

    Counters are compared exactly, the others by the processes' medians, adjusted for their number. With `paired` the
    processes of both sides were interleaved and are in that order; p is then Student's on the differences of pairs.
    """
    old_values = _values_by_metric(old)
    new_values = _values_by_metric(new)
    common = [key for key in old_values if key in new_values]
    if not common:
        raise ValueError("nothing was compared: the two sides have no metric in common")
    counters = []
    pairs: dict[str, tuple[Rounds, Rounds]] = {}
    varying: list[tuple[BenchmarkId, Metric, list[float], list[float]]] = []
    for benchmark, metric in common:
        sides = (old_values[benchmark, metric], new_values[benchmark, metric])
        if metric.is_counter:
            counters.append(_compare_counter(benchmark, metric, *sides))
        else:
            pairs[str(len(varying))] = _rates_by_round(benchmark, metric, *sides, paired=paired)
            varying.append((benchmark, metric, *sides))
    ratios = ratios_of_pairs(pairs)
    return [
        _diff(*sides, ratio) for sides, ratio in zip(varying, ratios.values(), strict=True)
    ] + counters


def _values_by_metric(
    observations: Sequence[Observation],
) -> dict[tuple[BenchmarkId, Metric], list[float]]:
    """Return the values of every metric, in the order of the processes."""
    values = defaultdict[tuple[BenchmarkId, Metric], list[float]](list)
    for observation in observations:
        values[observation.benchmark, observation.metric].append(observation.value)
    return values


def _rates_by_round(
    benchmark: BenchmarkId,
    metric: Metric,
    old: Sequence[float],
    new: Sequence[float],
    *,
    paired: bool,
) -> tuple[Rounds, Rounds]:
    """Return both sides' rates (more is better) by the number of the round; pairs have equal numbers."""
    if min(*old, *new) <= 0:
        raise ValueError(
            f"{benchmark.name}: {metric.name} must be positive to be compared, got {min(*old, *new)}"
        )
    if metric.better == "less":
        old = [1 / value for value in old]
        new = [1 / value for value in new]
    is_complete = len(old) == len(new)  # else a round is missing, and it is unknown which
    return dict(enumerate(old)), dict(
        enumerate(new, start=0 if paired and is_complete else len(old))
    )


def _diff(
    benchmark: BenchmarkId, metric: Metric, old: Sequence[float], new: Sequence[float], ratio: Ratio
) -> MetricDiff:
    """Return a comparison in the metric's own direction; `ratio` is that of rates."""
    value, low, high = ratio.value, ratio.low, ratio.high
    if metric.better == "less":
        value = 1 / value
        low, high = (1 / high if high else None), (1 / low if low else None)
    verdict: str = ratio.verdict
    if metric.unit == "B":
        verdict = MEMORY_VERDICTS.get(verdict, verdict)
    is_worse = ratio.verdict == "slower"
    return MetricDiff(
        benchmark, metric, tuple(old), tuple(new), value, verdict, is_worse, low, high, ratio.p
    )


def _compare_counter(
    benchmark: BenchmarkId, metric: Metric, old: Sequence[float], new: Sequence[float]
) -> MetricDiff:
    """Compare a counter; it is inconclusive if it varies within a side."""
    before = old[0]
    after = new[0]
    if len(set(old)) > 1 or len(set(new)) > 1:
        verdict = "inconclusive"
    elif before == after:
        verdict = "equal"
    elif metric.better == "same":
        verdict = "changed"
    else:
        verdict = "more" if after > before else "less"
    is_worse = verdict == "changed" or verdict == {"less": "more", "more": "less"}.get(
        metric.better
    )
    return MetricDiff(
        benchmark,
        metric,
        tuple(old),
        tuple(new),
        after / before if before else None,
        verdict,
        is_worse,
    )


def describe_unmatched_metrics(old: Sequence[Observation], new: Sequence[Observation]) -> list[str]:
    """List the metrics that only one side has; a benchmark without a common metric is listed once, by its name."""
    old_names = {(observation.benchmark.name, observation.metric.name) for observation in old}
    new_names = {(observation.benchmark.name, observation.metric.name) for observation in new}
    common = {benchmark for benchmark, _ in old_names} & {benchmark for benchmark, _ in new_names}
    lines = []
    for missing, side in ((old_names - new_names, "before"), (new_names - old_names, "after")):
        names = {
            f"{benchmark}, {metric}" if benchmark in common else benchmark
            for benchmark, metric in missing
        }
        lines += [f"{name} (only {side})" for name in sorted(names)]
    return lines


def verdict_exit_code(diffs: Sequence[MetricDiff]) -> int:
    """Return the exit code: 1 if a metric is worse, 4 if one is inconclusive, else 0."""
    if any(diff.is_worse for diff in diffs):
        return DISAGREEMENT
    return INCONCLUSIVE if any(diff.verdict == "inconclusive" for diff in diffs) else OK


def diff_table(diffs: Sequence[MetricDiff], notes: Sequence[str] = (), *, paired: bool) -> Table:
    """List times, memory and changed counters, with further notes; `paired` as in `compare_observations`."""
    counters = [diff for diff in diffs if diff.metric.is_counter]
    equal = [diff for diff in counters if diff.verdict == "equal"]
    rows = [
        {
            "part": diff.name,
            "old": diff.format_side(diff.old),
            "new": diff.format_side(diff.new),
            "new/old": diff.ratio,
            "low": diff.low,
            "high": diff.high,
            "p": diff.p,
            "runs": f"{len(diff.old)} + {len(diff.new)}",
            "verdict": diff.verdict,
        }
        for diff in diffs
        if diff.verdict != "equal"
    ]
    test = "Student's, of paired differences" if paired else "Student's, of all processes"
    lines = [
        "old, new: median of the processes' medians. low, high: 95 % interval of new/old, over processes.",
        f"p: {test}, adjusted for all times of the table (Holm).",
        "Slower or faster: p at most 0.01 and a change of 2 % or more.",
        f"{len(equal)} of {len(counters)} counters (parameters, FLOPs, tensor bytes, losses) are exactly equal.",
        *notes,
    ]
    return Table.of_figures("New against old", rows, "\n".join(lines))


def describe_diffs(diffs: Sequence[MetricDiff]) -> str:
    """Describe each worse metric in one line, or report that there is none, and the number of inconclusive ones."""
    worse = [f"regressed: {diff.describe()}" for diff in diffs if diff.is_worse]
    if worse:
        return "\n".join(worse)
    num_inconclusive = sum(diff.verdict == "inconclusive" for diff in diffs)
    addition = (
        f"; inconclusive: {num_inconclusive} of {len(diffs)} metrics" if num_inconclusive else ""
    )
    return f"no regression was found{addition}"
