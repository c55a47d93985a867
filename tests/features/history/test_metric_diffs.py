"""Figures of two sides, and what they are judged to be."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.features.history.commit_runs import save_document
from bench.features.history.metric_diffs import (
    compare_observations,
    describe_diffs,
    describe_unmatched_metrics,
    diff_table,
    format_exactly,
    verdict_exit_code,
)
from bench.measure.observations import (
    BenchmarkId,
    Commit,
    Metric,
    Observation,
    machine_of_benchmark_file,
    parse_benchmark_file,
)
from tests.documents import document

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
TIME = Metric("time", "s", "less", is_counter=False)
BYTES = Metric("peak resident memory", "B", "less", is_counter=False)
RATE = Metric("images per second", "images/s", "more", is_counter=False)
TENSORS = Metric("peak tensor bytes", "B", "less", is_counter=True)
PARAMETERS = Metric("parameters", "", "same", is_counter=True)


def figures(measure: Metric, *values: float, name: str = "part") -> list[Observation]:
    return [Observation(BenchmarkId(name, "group"), measure, value, "here", Commit("a"), None, "") for value in values]


def around(level: float, seed: int, many: int = 8) -> list[float]:
    draw = random.Random(seed)
    return [level * draw.gauss(1, 0.005) for _ in range(many)]


@pytest.mark.parametrize(
    ("measure", "factor", "verdict", "is_worse"),
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
def test_direction_of_worse_depends_on_the_metric(measure: Metric, factor: float, verdict: str, is_worse: bool) -> None:
    old, new = figures(measure, *around(3, 0)), figures(measure, *around(3 * factor, 1))
    (one,) = compare_observations(old, new, paired=True)
    assert (one.verdict, one.is_worse) == (verdict, is_worse)
    assert one.ratio == pytest.approx(factor, rel=0.01)
    assert one.low is not None
    assert one.high is not None
    assert one.low <= one.ratio <= one.high
    assert verdict_exit_code([one]) == (1 if is_worse else 0)
    assert describe_diffs([one]).startswith("regressed") == is_worse


@laws
@given(st.lists(st.floats(0.5, 2), min_size=2, max_size=8), st.lists(st.floats(0.5, 2), min_size=2, max_size=8))
def test_swapping_sides_inverts_the_change(old: list[float], new: list[float]) -> None:
    (there,) = compare_observations(figures(TIME, *old), figures(TIME, *new), paired=False)
    (back,) = compare_observations(figures(TIME, *new), figures(TIME, *old), paired=False)
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.low == pytest.approx(1 / back.high)
    assert there.p == pytest.approx(back.p)


def test_p_values_are_adjusted_for_all_benchmarks() -> None:
    old, new = figures(TIME, *around(1, 0)), figures(TIME, *around(1.1, 1))
    (separate,) = compare_observations(old, new, paired=True)
    others = [(figures(TIME, *around(1, n), name=f"{n}"), figures(TIME, *around(1, -n), name=f"{n}")) for n in range(9)]
    among = compare_observations(
        [*old, *(f for o, _ in others for f in o)], [*new, *(f for _, n in others for f in n)], paired=True
    )
    assert separate.p is not None
    assert among[0].p == pytest.approx(10 * separate.p)


@pytest.mark.parametrize(
    ("measure", "old", "new", "verdict", "code"),
    [
        (TENSORS, 100, 100, "equal", 0),
        (TENSORS, 100, 101, "more", 1),
        (TENSORS, 100, 99, "less", 0),
        (PARAMETERS, 100, 99, "changed", 1),
        (PARAMETERS, 0, 1, "changed", 1),
    ],
)
def test_counters_are_compared_exactly(measure: Metric, old: float, new: float, verdict: str, code: int) -> None:
    judged = compare_observations(figures(measure, old, old), figures(measure, new, new), paired=True)
    assert [one.verdict for one in judged] == [verdict]
    assert verdict_exit_code(judged) == code
    assert len(diff_table(judged, paired=True).rows) == (verdict != "equal")


def test_counter_that_varies_within_a_side_is_inconclusive() -> None:
    judged = compare_observations(figures(TENSORS, 1, 2), figures(TENSORS, 3, 3), paired=True)
    assert verdict_exit_code(judged) == 4


def test_one_process_per_side_is_inconclusive() -> None:
    judged = compare_observations(figures(TIME, 1), figures(TIME, 5), paired=False)
    assert [one.verdict for one in judged] == ["inconclusive"]
    assert verdict_exit_code(judged) == 4


def test_no_common_benchmark_is_an_error() -> None:
    old, new = figures(TIME, 1, name="a"), figures(TIME, 1, name="b")
    assert describe_unmatched_metrics(old, new) == ["a (only before)", "b (only after)"]
    assert describe_unmatched_metrics([*old, *figures(TENSORS, 1, name="a")], old) == [
        "a, peak tensor bytes (only before)"
    ]
    with pytest.raises(ValueError, match="nothing was compared"):
        compare_observations(old, new, paired=True)


def test_saved_document_has_the_machine_and_no_raw_rounds(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text(json.dumps(document({"test_a": 0.5}, machine="")))
    save_document(tmp_path / "measured.json", tmp_path / "deep" / "kept.json", "here; 1 thread", "now")
    kept = parse_benchmark_file((tmp_path / "deep" / "kept.json").read_bytes(), "kept")
    assert machine_of_benchmark_file(kept) == "here; 1 thread"
    assert kept.benchmarks[0].stats.median == 0.5
    assert kept.benchmarks[0].stats.data == ()
    assert kept.turn == "now"


def test_changed_counter_is_shown_with_every_digit() -> None:
    flops = Metric("FLOPs of a step", "FLOP", "less", is_counter=True)
    judged = compare_observations(figures(flops, 2_813_100_000), figures(flops, 2_813_100_001), paired=True)
    assert "went from 2,813,100,000 FLOP to 2,813,100,001 FLOP" in describe_diffs(judged)
    assert format_exactly(0.1 + 0.2, "nats") != format_exactly(0.3, "nats")


def test_missing_round_disables_pairing() -> None:
    """Nobody knows which round it was: pairs of neighbours would be of different ones."""
    luck = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 0.7, 1.0]
    old, new = figures(TIME, *luck), figures(TIME, *(1.1 * of for of in luck))
    assert compare_observations(old, new, paired=True)[0].verdict == "slower"
    (one,) = compare_observations(old, new[1:], paired=True)
    assert (one.verdict, len(one.old), len(one.new)) == ("inconclusive", 8, 7)
