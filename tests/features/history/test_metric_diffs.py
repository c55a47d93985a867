"""Figures of two sides, and their verdicts."""

import dataclasses
import random
from pathlib import Path

import pytest

from bench.features.history.commit_runs import save_benchmark_document_with_fingerprint
from bench.features.history.metric_diffs import (
    MetricDiff,
    compare_metric_values,
    describe_unmatched_metrics,
    diff_table,
    verdict_exit_code,
)
from bench.measure.metric_values import (
    BenchmarkId,
    CommitOrWorkTree,
    Metric,
    MetricValue,
    parse_benchmark_file,
)
from tests.documents import document

TIME = Metric("time", "s", "less", is_counter=False)
RATE = Metric("images per second", "images/s", "more", is_counter=False)
TENSORS = Metric("peak tensor bytes", "B", "less", is_counter=True)
PARAMETERS = Metric("parameters", "", "same", is_counter=True)


def metric_values(metric: Metric, *values: float, name: str = "part") -> list[MetricValue]:
    benchmark = BenchmarkId(name, "group")
    return [
        MetricValue(benchmark, metric, value, "here", CommitOrWorkTree("a"), None, "")
        for value in values
    ]


def around(level: float, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [level * draw.gauss(1, 0.005) for _ in range(8)]


def compare(metric: Metric, old: list[float], new: list[float]) -> MetricDiff:
    (diff,) = compare_metric_values(metric_values(metric, *old), metric_values(metric, *new))
    return diff


@pytest.mark.parametrize(
    ("metric", "factor", "verdict"),
    [
        (TIME, 1.1, "worse"),
        (TIME, 0.9, "better"),
        (RATE, 1.1, "better"),
        (TIME, 1.0, "no difference"),
    ],
)
def test_direction_of_worse_depends_on_the_metric(
    metric: Metric, factor: float, verdict: str
) -> None:
    diff = compare(metric, around(3, 0), around(3 * factor, 1))
    assert diff.verdict == verdict
    assert diff.ratio is not None
    assert diff.ratio.value == pytest.approx(factor, rel=0.01)
    assert verdict_exit_code([diff]) == (verdict == "worse")


def test_p_values_are_adjusted_for_all_benchmarks() -> None:
    old = metric_values(TIME, *around(1, 0))
    new = metric_values(TIME, *around(1.1, 1))
    (alone,) = compare_metric_values(old, new)
    for seed in range(9):
        old += metric_values(TIME, *around(1, seed), name=f"{seed}")
        new += metric_values(TIME, *around(1, -seed), name=f"{seed}")
    among_ten = compare_metric_values(old, new)[0]
    assert alone.ratio is not None
    assert among_ten.ratio is not None
    assert among_ten.ratio.p == pytest.approx(10 * alone.ratio.p)


@pytest.mark.parametrize(
    ("metric", "old", "new", "verdict", "code"),
    [
        (TENSORS, [100, 100], [100, 100], "equal", 0),
        (TENSORS, [100, 100], [99, 99], "better", 0),
        (PARAMETERS, [0, 0], [1, 1], "worse", 1),
        (TENSORS, [1, 2], [3, 3], "inconclusive", 4),
        (TIME, [1], [5], "inconclusive", 4),
    ],
)
def test_counters_are_compared_exactly_and_variation_is_inconclusive(
    metric: Metric, old: list[float], new: list[float], verdict: str, code: int
) -> None:
    diff = compare(metric, old, new)
    assert diff.verdict == verdict
    assert verdict_exit_code([diff]) == code
    assert len(diff_table([diff]).rows) == (verdict != "equal")


def test_processes_of_one_turn_are_a_pair_although_one_side_lacks_others() -> None:
    old = [
        dataclasses.replace(observation, turn=f"turn {number}")
        for number, observation in enumerate(metric_values(TIME, *(1.5**n for n in range(6))))
    ]
    new = [dataclasses.replace(value, value=1.1 * value.value) for value in old]
    (diff,) = compare_metric_values(old, new[1:])
    assert diff.ratio is not None
    assert diff.ratio.value == pytest.approx(1.1)
    assert diff.ratio.runs == (5, 5)
    assert diff.verdict == "worse"


def test_no_common_benchmark_is_an_error() -> None:
    old = metric_values(TIME, 1, name="a")
    new = metric_values(TIME, 1, name="b")
    assert describe_unmatched_metrics(old, new) == ["a, time (only old)", "b, time (only new)"]
    with pytest.raises(ValueError, match="nothing was compared"):
        compare_metric_values(old, new)


def test_saved_document_has_the_machine_and_no_raw_rounds(tmp_path: Path) -> None:
    content = document({"test_a": 0.5}, machine="") | {"turn": "now"}
    path = tmp_path / "deep" / "kept.json"
    save_benchmark_document_with_fingerprint(content, path, "here; 1 thread")
    kept = parse_benchmark_file(path.read_bytes(), "kept")
    assert kept.machine_info["fingerprint"] == "here; 1 thread"
    assert kept.benchmarks[0].stats.median == 0.5
    assert '"data"' not in path.read_text()
    assert kept.turn == "now"
