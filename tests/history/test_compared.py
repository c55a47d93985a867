"""Figures of two sides: what is read of them, what they are judged to be."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.history.compared import compared, compared_table, ended, on_one_side, told_worse
from bench.history.figures import Commit, Figure, Measure, Subject, read_figures
from bench.history.quantities import exactly, quantity
from bench.history.suite_documents import document_of, keep, machine_of
from tests.documents import MACHINE, document, written

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
TIME = Measure("time", "s", "less", is_counter=False)
BYTES = Measure("peak resident memory", "B", "less", is_counter=False)
RATE = Measure("images per second", "images/s", "more", is_counter=False)
TENSORS = Measure("peak tensor bytes", "B", "less", is_counter=True)
PARAMETERS = Measure("parameters", "", "same", is_counter=True)


def figures(measure: Measure, *values: float, name: str = "part") -> list[Figure]:
    return [Figure(Subject(name, "group"), measure, value, "here", Commit("a"), None, "") for value in values]


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
def test_what_is_more_is_worse_or_better_by_what_it_is(
    measure: Measure, factor: float, verdict: str, is_worse: bool
) -> None:
    old, new = figures(measure, *around(3, 0)), figures(measure, *around(3 * factor, 1))
    (one,) = compared(old, new, paired=True)
    assert (one.verdict, one.is_worse) == (verdict, is_worse)
    assert one.change == pytest.approx(factor, rel=0.01)
    assert one.low is not None
    assert one.high is not None
    assert one.low <= one.change <= one.high
    assert ended([one]) == (1 if is_worse else 0)
    assert bool(told_worse([one])) == is_worse


@laws
@given(st.lists(st.floats(0.5, 2), min_size=2, max_size=8), st.lists(st.floats(0.5, 2), min_size=2, max_size=8))
def test_sides_exchanged_give_the_inverse(old: list[float], new: list[float]) -> None:
    (there,) = compared(figures(TIME, *old), figures(TIME, *new), paired=False)
    (back,) = compared(figures(TIME, *new), figures(TIME, *old), paired=False)
    assert there.change == pytest.approx(1 / back.change)
    assert there.low == pytest.approx(1 / back.high)
    assert there.p == pytest.approx(back.p)


def test_every_part_is_adjusted_for_the_others() -> None:
    old, new = figures(TIME, *around(1, 0)), figures(TIME, *around(1.1, 1))
    (alone,) = compared(old, new, paired=True)
    others = [(figures(TIME, *around(1, n), name=f"{n}"), figures(TIME, *around(1, -n), name=f"{n}")) for n in range(9)]
    among = compared(
        [*old, *(f for o, _ in others for f in o)], [*new, *(f for _, n in others for f in n)], paired=True
    )
    assert alone.p is not None
    assert among[0].p == pytest.approx(10 * alone.p)


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
def test_a_counter_is_compared_to_the_last_digit(
    measure: Measure, old: float, new: float, verdict: str, code: int
) -> None:
    judged = compared(figures(measure, old, old), figures(measure, new, new), paired=True)
    assert [one.verdict for one in judged] == [verdict]
    assert ended(judged) == code
    assert len(compared_table(judged, paired=True).rows) == (verdict != "equal")


def test_a_counter_that_varies_by_itself_tells_nothing() -> None:
    judged = compared(figures(TENSORS, 1, 2), figures(TENSORS, 3, 3), paired=True)
    assert ended(judged) == 4


def test_one_process_a_side_is_inconclusive() -> None:
    judged = compared(figures(TIME, 1), figures(TIME, 5), paired=False)
    assert [one.verdict for one in judged] == ["inconclusive"]
    assert ended(judged) == 4


def test_nothing_in_common_is_no_good_news() -> None:
    old, new = figures(TIME, 1, name="a"), figures(TIME, 1, name="b")
    assert on_one_side(old, new) == ["a (only before)", "b (only after)"]
    assert on_one_side([*old, *figures(TENSORS, 1, name="a")], old) == ["a, peak tensor bytes (only before)"]
    with pytest.raises(ValueError, match="nothing was compared"):
        compared(old, new, paired=True)


def test_figures_are_medians_and_known_counters(tmp_path: Path) -> None:
    extra = {"parameters": 12, "peak tensor bytes": 34, "images per second": 5.0, "least and most": [1, 2]}
    found = read_figures([written(tmp_path, document({"test_a": 0.5}, extra=extra))])
    assert {(f.measure.name, f.value) for f in found} == {("time", 0.5), ("parameters", 12), ("peak tensor bytes", 34)}
    assert {f.machine for f in found} == {MACHINE}
    assert {f.subject.short for f in found} == {"test_a"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("suites.json", '{"benchmarks": []}', "measured nothing: it holds no benchmark"),
        ("suites.json", '{"benchmarks": [{}]}', "not a document of pytest-benchmark"),
        ("suites.json", '{"bench', "not JSON"),
        ("other.json", '{"rows": []}', "measured nothing: no figure"),
        ("one.speed.json", "{", "not a record"),
    ],
)
def test_what_measured_nothing_or_is_broken_is_an_error(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=told):
        read_figures([tmp_path])


def test_a_kept_document_has_the_machine_and_no_single_rounds(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text(json.dumps(document({"test_a": 0.5}, machine="")))
    keep(tmp_path / "measured.json", tmp_path / "deep" / "kept.json", "here; 1 thread", "now")
    kept = document_of((tmp_path / "deep" / "kept.json").read_bytes(), "kept")
    assert machine_of(kept) == "here; 1 thread"
    assert kept.benchmarks[0].stats.median == 0.5
    assert kept.benchmarks[0].stats.data == ()
    assert kept.turn == "now"


def test_other_peoples_documents_have_a_machine_too() -> None:
    one = document({"test_a": 0.5})
    del one["machine_info"]["fingerprint"]
    assert machine_of(document_of(json.dumps(one).encode(), "one")) == "Example CPU, 2 logical cores, Linux"


@pytest.mark.parametrize(
    ("value", "unit", "told"),
    [
        (0.0123, "s", "12.3 ms"),
        (2.5e-9, "s", "2.5 ns"),
        (3 * 2**20, "B", "3 MiB"),
        (12_345_678.0, "", "12,345,678"),
        (5.2e9, "FLOP", "5.2 GFLOP"),
        (4.123456789, "nats", "4.12346 nats"),
    ],
)
def test_quantities(value: float, unit: str, told: str) -> None:
    assert quantity(value, unit) == told


def test_a_counter_that_changed_is_told_with_the_digits_that_changed() -> None:
    flops = Measure("FLOPs of a step", "FLOP", "less", is_counter=True)
    judged = compared(figures(flops, 2_813_100_000), figures(flops, 2_813_100_001), paired=True)
    assert "went from 2,813,100,000 FLOP to 2,813,100,001 FLOP" in told_worse(judged)[0]
    assert exactly(0.1 + 0.2, "nats") != exactly(0.3, "nats")


def test_without_a_round_on_one_side_nothing_is_paired() -> None:
    """Nobody knows which round it was: pairs of neighbours would be of different ones."""
    luck = [1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 0.7, 1.0]
    old, new = figures(TIME, *luck), figures(TIME, *(1.1 * of for of in luck))
    assert compared(old, new, paired=True)[0].verdict == "slower"
    (one,) = compared(old, new[1:], paired=True)
    assert (one.verdict, len(one.old), len(one.new)) == ("inconclusive", 8, 7)
