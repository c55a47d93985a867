"""What records say of a ratio: every cause gets what it did, and nothing else does."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from bench.cli.explain import EXIT_CODES
from bench.explain.decomposition import Explained, explained, in_words
from bench.explain.tables import cause_table, line_table, side_by_side
from bench.ladder import HEAD, PADDING, REST, TEXT_TOWER, Coordinates, Line
from bench.record import Ladder, Record, read_record, record_path, write_record
from tests.ladders import ladder_of, measured

RUNGS = (0.0, math.log(1.3), math.log(1.3 * 1.2), math.log(1.3 * 1.2 * 1.01))
Log = Callable[[Coordinates], float]


def multiplied(**factors: float) -> Log:
    """Causes that multiply: the rungs', and each factor's where it has changed."""
    return lambda at: 5 + RUNGS[at[0]] + sum(math.log(factors[name]) for name in at[1])


def found_in(log: Log, chosen: Sequence[str] = (), *, whole: bool = False, **how: Any) -> Explained:
    ladder, cells = ladder_of(chosen=chosen, whole=whole)
    found = explained(measured(ladder, cells, log, **how))
    assert found is not None
    return found


def values(found: Explained, of: str = "chain") -> dict[str, float]:
    return {part.cause: getattr(part, of).value for part in found.parts}


def test_each_rung_has_its_ratio_and_the_parts_make_the_whole() -> None:
    found = found_in(multiplied())
    assert values(found) == pytest.approx({PADDING: 1.3, TEXT_TOWER: 1.2, HEAD: 1.01})
    assert values(found, "step") == pytest.approx(values(found))
    assert found.rounds == (5, 5)
    for one in (found.product.chain, found.whole.chain):
        assert one is not None
        assert one.value == pytest.approx(1.3 * 1.2 * 1.01)
    assert found.residue is not None
    assert (found.residue.value, found.verdict) == (pytest.approx(1), "agree")
    assert found.objective is None


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_a_planted_factor_lands_on_that_factor(whole: bool, spread: float) -> None:
    log = multiplied(kernel=1.0, planted_delay=1.25)
    found = found_in(log, ["kernel", "planted_delay=0.25"], whole=whole, spread=spread)
    for of in ("chain", "step", *(["shapley"] if whole else [])):
        expected = {"kernel": 1.0, "planted_delay": 1.25, PADDING: 1.3, TEXT_TOWER: 1.2, HEAD: 1.01}
        assert values(found, of) == pytest.approx(expected, rel=0.001 + 2.5 * spread)
    planted = next(part for part in found.parts if part.cause == "planted_delay")
    assert planted.change == "planted_delay=0.25 -> 0.0"
    assert planted.chain is not None
    if spread:
        assert planted.chain.low is not None
        assert planted.chain.high is not None
        assert 1.1 < planted.chain.low < 1.25 < planted.chain.high < 1.4
    assert found.objective is not None
    assert found.objective.chain is not None
    assert found.objective.chain.value == pytest.approx(1.3 * 1.2 * 1.01, rel=0.001 + 2.5 * spread)


def test_where_causes_meet_the_order_matters_and_shapley_values_share() -> None:
    """A factor that doubles what the text tower costs: in the chain it takes all of it, over all orders half."""

    def log(at: Coordinates) -> float:
        rung, changed = at
        return 5 + RUNGS[rung] + (0.2 if "kernel" in changed and rung < 2 else 0.0)

    found = found_in(log, ["kernel"], whole=True)
    chain, shared = (
        {cause: math.log(value) for cause, value in values(found, of).items()} for of in ("chain", "shapley")
    )
    assert chain["kernel"] == pytest.approx(0.2)
    assert shared["kernel"] == pytest.approx(0.1)
    assert shared[TEXT_TOWER] - chain[TEXT_TOWER] == pytest.approx(0.1)
    assert sum(shared.values()) == pytest.approx(sum(chain.values()))


@pytest.mark.parametrize(
    ("apart", "spread", "verdict", "code"),
    [
        (0.0, 0.005, "agree", 0),
        (0.1, 0.005, "disagree", 1),
        (-0.1, 0.005, "disagree", 1),
        (0.0, 0.3, "inconclusive", 4),
    ],
)
def test_parts_and_whole_can_disagree(apart: float, spread: float, verdict: str, code: int) -> None:
    found = found_in(multiplied(), apart=apart, spread=spread)
    assert (found.verdict, EXIT_CODES[found.verdict]) == (verdict, code)
    assert found.residue is not None
    if spread < 0.1:
        assert found.residue.value == pytest.approx(math.exp(apart), rel=0.02)


def test_the_luck_that_a_round_shares_widens_no_part() -> None:
    """`measured` gives a round five times the spread that a run has of its own."""
    part = found_in(multiplied(), spread=0.01).parts[0].chain
    assert part is not None
    assert part.error is not None
    assert part.error < 0.015


def test_flops_predict_beside_each_cause() -> None:
    found = found_in(multiplied(), flops=lambda at: (0.0, 0.2, 0.3, 0.29)[at[0]])
    assert [part.by_flops for part in found.parts] == pytest.approx([math.exp(0.2), math.exp(0.1), math.exp(-0.01)])
    assert found.whole.by_flops == pytest.approx(math.exp(0.29))


def test_a_cell_that_is_wrong_cancels_in_the_product_and_shows_beside_the_flops() -> None:
    """The text tower's features come 30 % too slowly, in all rounds: its two neighbours are off, in opposite ways."""

    def log(at: Coordinates) -> float:
        return 5 + RUNGS[at[0]] - (0.3 if at[0] == 2 else 0.0)

    found = found_in(log, spread=0.005, flops=lambda at: RUNGS[at[0]])
    assert found.verdict == "agree"
    assert [part.verdict for part in found.parts] == ["as FLOPs say", "not what FLOPs say", "not what FLOPs say"]
    assert [part.off_flops.mean for part in found.parts if part.off_flops] == pytest.approx([0, -0.3, 0.3], abs=0.02)
    right = found_in(multiplied(), spread=0.005, flops=lambda at: RUNGS[at[0]])
    assert {part.verdict for part in right.parts} == {"as FLOPs say"}
    restless = found_in(multiplied(), spread=0.1, flops=lambda at: RUNGS[at[0]])
    assert {part.verdict for part in restless.parts} == {"cannot be told"}
    told = in_words(found)
    assert f"as FLOPs say: {PADDING} (" in told
    assert f"not what FLOPs say: {TEXT_TOWER} (-0.3" in told
    rows = {row["cause"]: row for row in cause_table(found).rows}
    assert rows[TEXT_TOWER]["off FLOPs"] == pytest.approx(-0.3, abs=0.02)
    assert rows[TEXT_TOWER]["verdict"] == "not what FLOPs say"


def test_shapley_values_of_the_flops_are_what_those_of_the_time_are_held_against() -> None:
    """A kernel that doubles what the text tower costs, in time as in FLOPs."""

    def log(at: Coordinates) -> float:
        rung, changed = at
        return 5 + RUNGS[rung] + (0.2 if "kernel" in changed and rung < 2 else 0.0)

    found = found_in(log, ["kernel"], whole=True, spread=0.001, flops=log)
    for part in found.parts:
        assert part.shapley is not None
        assert part.by_flops is not None
        assert part.best_by_flops == pytest.approx(part.shapley.value, rel=0.01)
        assert part.verdict == "as FLOPs say"
    kernel = found.parts[0]
    assert (kernel.by_flops, kernel.shapley_by_flops) == pytest.approx((math.exp(0.2), math.exp(0.1)))
    assert math.prod(part.shapley_by_flops or 0 for part in found.parts) == pytest.approx(found.whole.by_flops)
    row = cause_table(found).rows[0]
    assert row["Shapley by FLOPs"] == pytest.approx(math.exp(0.1))
    assert {part.shapley_by_flops for part in found_in(log, ["kernel"]).parts} == {None}


def test_the_word_for_agreement_says_how_near() -> None:
    found = found_in(multiplied(), spread=0.005)
    assert found.residue is not None
    assert found.residue.margin is not None
    said = float(found.judged.removeprefix("agree within ").removesuffix(" %")) / 100
    assert abs(found.residue.mean) + found.residue.margin <= math.log1p(said)
    assert said < 0.05
    assert found.judged in in_words(found)
    assert cause_table(found).rows[-1]["verdict"] == found.judged


def test_the_recipes_rest_is_no_part_of_the_objective() -> None:
    """It costs a tenth; the objective alone is what it is without it."""
    ladder, cells = ladder_of(chosen=["kernel"], settings=["clip_norm=2", "flip=false"])
    assert ladder.steps == ("kernel", REST, PADDING, TEXT_TOWER, HEAD)
    found = explained(measured(ladder, cells, lambda at: 5 + (-0.1, 0, 0, 0, 0.3)[at[0]]))
    assert found is not None
    assert found.objective is not None
    assert found.objective.chain is not None
    assert found.objective.chain.value == pytest.approx(math.exp(0.3))
    assert values(found)[REST] == pytest.approx(math.exp(0.1))


def test_recipes_stand_side_by_side() -> None:
    line = Line(what="published", ratio=2.7, source="figure 1c")
    found = {}
    for name, chosen in (("published", ["kernel"]), ("controlled", [])):
        ladder, cells = ladder_of(chosen=chosen)
        one = explained(
            measured(replace(ladder, lines=(line,)), cells, multiplied(kernel=1.1), flops=multiplied(kernel=1))
        )
        assert one is not None
        found[name] = one
    table = side_by_side(found)
    rows = {row["what"]: (row["published"], row["controlled"]) for row in table.rows}
    assert rows["kernel"] == (pytest.approx(1.1), None)
    assert rows[PADDING] == pytest.approx((1.3, 1.3))
    assert rows["published"] == (2.7, 2.7)
    assert rows["whole, by FLOPs counted here"] == pytest.approx((math.exp(RUNGS[-1]),) * 2)
    assert "published: figure 1c." in table.note


def test_what_was_not_measured_is_none_and_no_verdict() -> None:
    ladder, cells = ladder_of()
    records = [one for one in measured(ladder, cells, multiplied()) if one.experiment != cells[1]]
    found = explained(records)
    assert found is not None
    assert [part.chain is None for part in found.parts] == [True, True, False]
    assert "Some configurations were not measured" in in_words(found)
    only_parts = [one for one in measured(ladder, cells, multiplied()) if not getattr(one.measured, "round", 0) % 2]
    found = explained(only_parts)
    assert found is not None
    assert (found.whole.chain, found.residue, found.verdict) == (None, None, "inconclusive")
    assert explained(records[1:]) is None  # no ladder


def test_the_words_are_made_of_the_figures() -> None:
    found = found_in(multiplied(), spread=1e-4)
    told = in_words(found)
    assert "as fast at the end of the ladder (catlip-tiny)" in told
    assert "are 1.30x for captions' padding, 1.20x for the text tower, 1.01x for head and loss; 1.00x (" in told
    assert "product and whole ratio agree within 0." in told
    assert "product and whole ratio disagree" in in_words(found_in(multiplied(), apart=0.2, spread=1e-4))


def test_the_table_has_every_part_the_product_the_whole_and_the_rest() -> None:
    found = found_in(multiplied(kernel=1.1), ["kernel"], whole=True)
    table = cause_table(found)
    assert [row["cause"] for row in table.rows] == [
        *("kernel", PADDING, TEXT_TOWER, HEAD),
        *("objective, all else equal", "product of the parts", "whole, measured apart", "unexplained"),
    ]
    assert table.rows[0]["Shapley"] == pytest.approx(1.1)
    assert table.rows[-1]["forward + backward"] == pytest.approx(1)
    assert in_words(found) in table.note
    assert "Shapley" not in cause_table(found_in(multiplied())).rows[0]


def test_lines_stand_beside_what_was_measured() -> None:
    ladder, cells = ladder_of()
    assert not line_table(found_in(multiplied())).rows
    ladder = replace(ladder, lines=(Line(what="published", ratio=2.7, source="figure 1c"),))
    found = explained(measured(ladder, cells, multiplied()))
    assert found is not None
    rows = line_table(found).rows
    assert [row["what"] for row in rows] == ["published", "measured, the pair"]
    assert "Published: 2.70x." in in_words(found)


def test_a_ladder_is_a_record(tmp_path: Any) -> None:
    ladder, cells = ladder_of(chosen=["kernel"], whole=True)
    record: Record = measured(ladder, cells, multiplied(kernel=1.0), rounds=0)[0]
    path = record_path(tmp_path, "c", "ladder", "x")
    write_record(record, path)
    again = read_record(path)
    assert isinstance(again.measured, Ladder)
    assert again == record
