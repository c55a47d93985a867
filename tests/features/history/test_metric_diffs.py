"""Figures of two sides, and their verdicts."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.features.history.commit_runs import save_document
from bench.features.history.metric_diffs import (
    MetricDiff,
    compare_observations,
    describe_diffs,
    describe_unmatched_metrics,
    diff_table,
    verdict_exit_code,
)
from bench.measure.observations import (
    BenchmarkId,
    Commit,
    Metric,
    Observation,
    parse_benchmark_file,
)
from tests.documents import document

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
TIME = Metric("time", "s", "less", is_counter=False)
BYTES = Metric("peak resident memory", "B", "less", is_counter=False)
RATE = Metric("images per second", "images/s", "more", is_counter=False)
TENSORS = Metric("peak tensor bytes", "B", "less", is_counter=True)
PARAMETERS = Metric("parameters", "", "same", is_counter=True)


def observations(metric: Metric, *values: float, name: str = "part") -> list[Observation]:
    benchmark = BenchmarkId(name, "group")
    return [
        Observation(benchmark, metric, value, "here", Commit("a"), None, "") for value in values
    ]


def around(level: float, seed: int) -> list[float]:
    draw = random.Random(seed)
    return [level * draw.gauss(1, 0.005) for _ in range(8)]


def compare(
    metric: Metric, old: list[float], new: list[float], *, paired: bool = True
) -> MetricDiff:
    (diff,) = compare_observations(
        observations(metric, *old), observations(metric, *new), paired=paired
    )
    return diff


@pytest.mark.parametrize(
    ("metric", "factor", "verdict", "is_worse"),
    [
        (TIME, 1.1, "slower", True),
        (TIME, 0.9, "faster", False),
        (RATE, 1.1, "faster", False),
        (RATE, 0.9, "slower", True),
        (BYTES, 1.1, "larger", True),
        (BYTES, 0.9, "smaller", False),
        (TIME, 1.0, "no difference", False),
    ],
)
def test_direction_of_worse_depends_on_the_metric(
    metric: Metric, factor: float, verdict: str, is_worse: bool
) -> None:
    diff = compare(metric, around(3, 0), around(3 * factor, 1))
    assert (diff.verdict, diff.is_worse) == (verdict, is_worse)
    assert diff.ratio == pytest.approx(factor, rel=0.01)
    assert diff.low <= diff.ratio <= diff.high
    assert verdict_exit_code([diff]) == (1 if is_worse else 0)
    assert describe_diffs([diff]).startswith("regressed") == is_worse


@laws
@given(
    st.lists(st.floats(0.5, 2), min_size=2, max_size=8),
    st.lists(st.floats(0.5, 2), min_size=2, max_size=8),
)
def test_swapping_sides_inverts_the_change(old: list[float], new: list[float]) -> None:
    forward = compare(TIME, old, new, paired=False)
    backward = compare(TIME, new, old, paired=False)
    assert forward.ratio == pytest.approx(1 / backward.ratio)
    assert forward.low == pytest.approx(1 / backward.high)
    assert forward.p == pytest.approx(backward.p)


def test_p_values_are_adjusted_for_all_benchmarks() -> None:
    old, new = observations(TIME, *around(1, 0)), observations(TIME, *around(1.1, 1))
    (alone,) = compare_observations(old, new, paired=True)
    for seed in range(9):
        old += observations(TIME, *around(1, seed), name=f"{seed}")
        new += observations(TIME, *around(1, -seed), name=f"{seed}")
    among_ten = compare_observations(old, new, paired=True)[0]
    assert among_ten.p == pytest.approx(10 * alone.p)


@pytest.mark.parametrize(
    ("metric", "old", "new", "verdict", "code"),
    [
        (TENSORS, [100, 100], [100, 100], "equal", 0),
        (TENSORS, [100, 100], [101, 101], "more", 1),
        (TENSORS, [100, 100], [99, 99], "less", 0),
        (PARAMETERS, [100, 100], [99, 99], "changed", 1),
        (PARAMETERS, [0, 0], [1, 1], "changed", 1),
        (TENSORS, [1, 2], [3, 3], "inconclusive", 4),
        (TIME, [1], [5], "inconclusive", 4),
    ],
)
def test_counters_are_compared_exactly_and_variation_is_inconclusive(
    metric: Metric, old: list[float], new: list[float], verdict: str, code: int
) -> None:
    diff = compare(metric, old, new, paired=False)
    assert diff.verdict == verdict
    assert verdict_exit_code([diff]) == code
    assert len(diff_table([diff], paired=True).rows) == (verdict != "equal")


def test_changed_counter_is_shown_with_every_digit() -> None:
    flops = Metric("FLOPs of a step", "FLOP", "less", is_counter=True)
    diff = compare(flops, [2_813_100_000], [2_813_100_001])
    assert "went from 2,813,100,000 FLOP to 2,813,100,001 FLOP" in describe_diffs([diff])


def test_no_common_benchmark_is_an_error() -> None:
    old, new = observations(TIME, 1, name="a"), observations(TIME, 1, name="b")
    assert describe_unmatched_metrics(old, new) == ["a (only before)", "b (only after)"]
    more = [*old, *observations(TENSORS, 1, name="a")]
    assert describe_unmatched_metrics(more, old) == ["a, peak tensor bytes (only before)"]
    with pytest.raises(ValueError, match="nothing was compared"):
        compare_observations(old, new, paired=True)


def test_saved_document_has_the_machine_and_no_raw_rounds(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text(json.dumps(document({"test_a": 0.5}, machine="")))
    save_document(
        tmp_path / "measured.json", tmp_path / "deep" / "kept.json", "here; 1 thread", "now"
    )
    kept = parse_benchmark_file((tmp_path / "deep" / "kept.json").read_bytes(), "kept")
    assert kept.machine_info["fingerprint"] == "here; 1 thread"
    assert kept.benchmarks[0].stats.median == 0.5
    assert '"data"' not in (tmp_path / "deep" / "kept.json").read_text()
    assert kept.turn == "now"


def test_missing_round_disables_pairing() -> None:
    """It is unknown which round is missing, so neighbours may be of different rounds."""
    factors = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 0.7, 1.0]
    slower = [1.1 * factor for factor in factors]
    assert compare(TIME, factors, slower).verdict == "slower"
    incomplete = compare(TIME, factors, slower[1:])
    assert (incomplete.verdict, len(incomplete.old), len(incomplete.new)) == ("inconclusive", 8, 7)
