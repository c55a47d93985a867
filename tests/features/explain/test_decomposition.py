"""What records say of a ratio: every cause gets what it did, and nothing else does."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from bench.features.explain.decomposition import Decomposition, decompose
from bench.features.explain.ladder import HEAD, PADDING, REST, TEXT_TOWER, Coordinates, ExpectedRatio, Ladder
from bench.features.explain.tables import cause_table, decompositions_table, explained_table, reference_table, summarize
from bench.features.explain.verb import EXIT_CODES
from bench.records.record import Record, Speed, read_record, record_path, write_record
from tests.features.explain.ladders import ladder_of, measured

STAGES = (0.0, math.log(1.3), math.log(1.3 * 1.2), math.log(1.3 * 1.2 * 1.01))
Log = Callable[[Coordinates], float]


def multiplied(**factors: float) -> Log:
    """Causes that multiply: the stages', and each factor's where it has changed."""
    return lambda at: 5 + STAGES[at[0]] + sum(math.log(factors[name]) for name in at[1])


def found_in(log: Log, chosen: Sequence[str] = (), *, whole: bool = False, **how: Any) -> Decomposition:
    ladder, configurations = ladder_of(chosen=chosen, whole=whole)
    found = decompose(measured(ladder, configurations, log, **how))
    assert found is not None
    return found


def values(found: Decomposition, of: str = "chain") -> dict[str, float]:
    return {part.cause: getattr(part, of).value for part in found.parts}


def test_each_stage_has_a_ratio_and_the_product_is_the_total() -> None:
    found = found_in(multiplied())
    assert values(found) == pytest.approx({PADDING: 1.3, TEXT_TOWER: 1.2, HEAD: 1.01})
    assert values(found, "step") == pytest.approx(values(found))
    assert found.rounds == (5, 5)
    for one in (found.product.chain, found.whole.chain):
        assert one is not None
        assert one.value == pytest.approx(1.3 * 1.2 * 1.01)
    assert found.unexplained is not None
    assert (found.unexplained.value, found.verdict) == (pytest.approx(1), "agree")
    assert found.objective is None


def test_each_cause_has_the_microseconds_per_image_that_it_saves() -> None:
    """A step of these records makes three quarters of e^log images per second."""
    rates = [0.75 * math.exp(5 + log) for log in STAGES]
    saved = [1e6 / before - 1e6 / after for before, after in pairwise(rates)]
    rows = {row["cause"]: row["saved, us/image"] for row in cause_table(found_in(multiplied())).rows}
    assert [rows[cause] for cause in (PADDING, TEXT_TOWER, HEAD)] == pytest.approx(saved)
    assert rows["product of the parts"] == pytest.approx(sum(saved)) == pytest.approx(rows["whole, measured apart"])
    assert rows["unexplained"] is None


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_injected_factor_is_attributed_to_itself(whole: bool, spread: float) -> None:
    log = multiplied(kernel=1.0, injected_slowdown=1.25)
    found = found_in(log, ["kernel", "injected_slowdown=0.25"], whole=whole, spread=spread)
    for of in ("chain", "step", *(["shapley"] if whole else [])):
        expected = {"kernel": 1.0, "injected_slowdown": 1.25, PADDING: 1.3, TEXT_TOWER: 1.2, HEAD: 1.01}
        assert values(found, of) == pytest.approx(expected, rel=0.001 + 2.5 * spread)
    planted = next(part for part in found.parts if part.cause == "injected_slowdown")
    assert planted.change == "injected_slowdown=0.25 -> 0.0"
    assert planted.chain is not None
    if spread:
        assert planted.chain.low is not None
        assert planted.chain.high is not None
        assert 1.1 < planted.chain.low < 1.25 < planted.chain.high < 1.4
    assert found.objective is not None
    assert found.objective.chain is not None
    assert found.objective.chain.value == pytest.approx(1.3 * 1.2 * 1.01, rel=0.001 + 2.5 * spread)


def test_interacting_causes_share_the_interaction_by_shapley() -> None:
    """A factor that doubles what the text tower costs: in the chain it takes all of it, over all orders half."""

    def log(at: Coordinates) -> float:
        stage, changed = at
        return 5 + STAGES[stage] + (0.2 if "kernel" in changed and stage < 2 else 0.0)

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
def test_product_and_total_can_disagree(apart: float, spread: float, verdict: str, code: int) -> None:
    found = found_in(multiplied(), apart=apart, spread=spread)
    assert (found.verdict, EXIT_CODES[found.verdict]) == (verdict, code)
    assert found.unexplained is not None
    if spread < 0.1:
        assert found.unexplained.value == pytest.approx(math.exp(apart), rel=0.02)


def kept_from_cores(record: Record) -> Record:
    """Return the record of a run whose threads waited for a core in every window and step."""
    run = record.measured
    if not isinstance(run, Speed):
        return record
    steps = len(next(iter(run.phase_seconds.values()), ()))
    waited = replace(run, window_core_waits=(5.0,) * len(run.window_seconds), phase_core_waits=(5.0,) * steps)
    return replace(record, measured=waited)


def test_rounds_that_other_work_disturbed_are_left_out() -> None:
    """In a disturbed round the last configuration is half as fast."""
    ladder, configurations = ladder_of()
    rows = measured(ladder, configurations, multiplied(), rounds=12)
    quiet = decompose([row for row in rows if not isinstance(row.measured, Speed) or row.measured.round not in (0, 3)])
    slowed = []
    for record in rows:
        run = record.measured
        if isinstance(run, Speed) and run.round in (0, 3):
            factor = 2 if record.experiment == configurations[-1] else 1
            windows = tuple(factor * seconds for seconds in run.window_seconds)
            record = kept_from_cores(replace(record, measured=replace(run, window_seconds=windows)))  # noqa: PLW2901
        slowed.append(record)
    result = decompose(slowed)
    assert quiet is not None
    assert result is not None
    assert result.rounds == quiet.rounds == (5, 5)
    assert values(result, "step") == pytest.approx(values(quiet, "step"))
    assert "were disturbed nearly throughout and are left out" in explained_table(result).note


def test_ladder_whose_threads_waited_most_of_the_time_has_no_verdict() -> None:
    ladder, configurations = ladder_of()
    rows = measured(ladder, configurations, multiplied(), rounds=12)
    slowed = [kept_from_cores(row) for row in rows]
    result = decompose(slowed)
    assert result is not None
    assert result.verdict == "inconclusive"


def test_round_effects_do_not_widen_intervals() -> None:
    """`measured` gives a round five times the spread that a run has of its own."""
    part = found_in(multiplied(), spread=0.01).parts[0].chain
    assert part is not None
    assert part.error is not None
    assert part.error < 0.015


def test_each_cause_has_a_flop_predicted_ratio() -> None:
    found = found_in(multiplied(), flops=lambda at: (0.0, 0.2, 0.3, 0.29)[at[0]])
    assert [part.flop_ratio for part in found.parts] == pytest.approx([math.exp(0.2), math.exp(0.1), math.exp(-0.01)])
    assert found.whole.flop_ratio == pytest.approx(math.exp(0.29))


def test_biased_configuration_cancels_in_the_product_and_deviates_from_flops() -> None:
    """The text tower's features come 30 % too slowly, in all rounds: its two neighbours are off, in opposite ways."""

    def log(at: Coordinates) -> float:
        return 5 + STAGES[at[0]] - (0.3 if at[0] == 2 else 0.0)

    found = found_in(log, spread=0.005, flops=lambda at: STAGES[at[0]])
    assert found.verdict == "agree"
    assert [part.verdict for part in found.parts] == [
        "consistent with FLOPs",
        "not consistent with FLOPs",
        "not consistent with FLOPs",
    ]
    assert [part.flops_deviation.mean for part in found.parts if part.flops_deviation] == pytest.approx(
        [0, -0.3, 0.3], abs=0.02
    )
    right = found_in(multiplied(), spread=0.005, flops=lambda at: STAGES[at[0]])
    assert {part.verdict for part in right.parts} == {"consistent with FLOPs"}
    restless = found_in(multiplied(), spread=0.1, flops=lambda at: STAGES[at[0]])
    assert {part.verdict for part in restless.parts} == {"cannot be told"}
    text = summarize(found)
    assert f"consistent with FLOPs: {PADDING} (" in text
    assert f"not consistent with FLOPs: {TEXT_TOWER} (-0.3" in text
    rows = {row["cause"]: row for row in cause_table(found).rows}
    assert rows[TEXT_TOWER]["off FLOPs"][0] == pytest.approx(-0.3, abs=0.02)
    assert rows[TEXT_TOWER]["verdict"] == "not consistent with FLOPs"


def test_shapley_times_are_compared_with_shapley_flops() -> None:
    """A kernel that doubles what the text tower costs, in time as in FLOPs."""

    def log(at: Coordinates) -> float:
        stage, changed = at
        return 5 + STAGES[stage] + (0.2 if "kernel" in changed and stage < 2 else 0.0)

    found = found_in(log, ["kernel"], whole=True, spread=0.001, flops=log)
    for part in found.parts:
        assert part.shapley is not None
        assert part.flop_ratio is not None
        assert part.best_flop_ratio == pytest.approx(part.shapley.value, rel=0.01)
        assert part.verdict == "consistent with FLOPs"
    kernel = found.parts[0]
    assert (kernel.flop_ratio, kernel.shapley_flop_ratio) == pytest.approx((math.exp(0.2), math.exp(0.1)))
    assert math.prod(part.shapley_flop_ratio or 0 for part in found.parts) == pytest.approx(found.whole.flop_ratio)
    row = cause_table(found).rows[0]
    assert row["FLOP-predicted Shapley"] == pytest.approx(math.exp(0.1))
    assert {part.shapley_flop_ratio for part in found_in(log, ["kernel"]).parts} == {None}


def test_agreement_text_states_the_margin() -> None:
    found = found_in(multiplied(), spread=0.005)
    assert found.unexplained is not None
    assert found.unexplained.margin is not None
    said = float(found.verdict_text.removeprefix("agree within ").removesuffix(" %")) / 100
    assert abs(found.unexplained.mean) + found.unexplained.margin <= math.log1p(said)
    assert said < 0.05
    assert found.verdict_text in summarize(found)
    assert cause_table(found).rows[-1]["verdict"] == found.verdict_text


def test_rest_of_the_recipe_is_not_part_of_the_objective() -> None:
    """It costs a tenth; the objective alone is what it is without it."""
    ladder, configurations = ladder_of(chosen=["kernel"], settings=["clip_norm=2", "flip=false"])
    assert ladder.steps == ("kernel", REST, PADDING, TEXT_TOWER, HEAD)
    found = decompose(measured(ladder, configurations, lambda at: 5 + (-0.1, 0, 0, 0, 0.3)[at[0]]))
    assert found is not None
    assert found.objective is not None
    assert found.objective.chain is not None
    assert found.objective.chain.value == pytest.approx(math.exp(0.3))
    assert values(found)[REST] == pytest.approx(math.exp(0.1))


def test_recipes_are_compared_in_columns() -> None:
    line = ExpectedRatio(what="published", ratio=2.7, source="figure 1c")
    found = {}
    for name, chosen in (("published", ["kernel"]), ("controlled", [])):
        ladder, configurations = ladder_of(chosen=chosen)
        one = decompose(
            measured(
                replace(ladder, references=(line,)), configurations, multiplied(kernel=1.1), flops=multiplied(kernel=1)
            )
        )
        assert one is not None
        found[name] = one
    table = decompositions_table(found)
    rows = {row["what"]: (row["published"], row["controlled"]) for row in table.rows}
    assert rows["kernel"] == (pytest.approx(1.1), None)
    assert rows[PADDING] == pytest.approx((1.3, 1.3))
    assert rows["published"] == (2.7, 2.7)
    assert rows["whole, FLOP-predicted counted here"] == pytest.approx((math.exp(STAGES[-1]),) * 2)
    assert "published: figure 1c." in table.note


def test_unmeasured_parts_are_none_without_a_verdict() -> None:
    ladder, configurations = ladder_of()
    records = [one for one in measured(ladder, configurations, multiplied()) if one.experiment != configurations[1]]
    found = decompose(records)
    assert found is not None
    assert [part.chain is None for part in found.parts] == [True, True, False]
    assert "Some configurations were not measured" in summarize(found)
    only_parts = [
        one for one in measured(ladder, configurations, multiplied()) if not getattr(one.measured, "round", 0) % 2
    ]
    found = decompose(only_parts)
    assert found is not None
    assert (found.whole.chain, found.unexplained, found.verdict) == (None, None, "inconclusive")
    assert decompose(records[1:]) is None  # no ladder


def test_summary_is_derived_from_the_figures() -> None:
    found = found_in(multiplied(), spread=1e-4)
    text = summarize(found)
    assert "as fast at the end of the ladder (catlip-tiny)" in text
    assert "are 1.30x for captions' padding, 1.20x for the text tower, 1.01x for head and loss." in text
    assert "1.00x (" in text
    assert "product and whole ratio agree within 0." in text
    assert "product and whole ratio disagree" in summarize(found_in(multiplied(), apart=0.2, spread=1e-4))


def test_table_lists_parts_product_total_and_unexplained() -> None:
    found = found_in(multiplied(kernel=1.1), ["kernel"], whole=True)
    table = cause_table(found)
    assert [row["cause"] for row in table.rows] == [
        *("kernel", PADDING, TEXT_TOWER, HEAD),
        *("objective, all else equal", "product of the parts", "whole, measured apart", "unexplained"),
    ]
    assert table.rows[0]["Shapley"][0] == pytest.approx(1.1)
    assert table.rows[-1]["forward + backward"][0] == pytest.approx(1)
    assert summarize(found) in explained_table(found).note
    assert "Shapley" not in cause_table(found_in(multiplied())).rows[0]


def test_reference_ratios_are_listed_with_the_measured_ratio() -> None:
    ladder, configurations = ladder_of()
    assert not reference_table(found_in(multiplied())).rows
    ladder = replace(ladder, references=(ExpectedRatio(what="published", ratio=2.7, source="figure 1c"),))
    found = decompose(measured(ladder, configurations, multiplied()))
    assert found is not None
    rows = reference_table(found).rows
    assert [row["what"] for row in rows] == ["published", "measured, the pair"]
    assert "Published: 2.70x." in summarize(found)


def test_a_ladder_is_a_record(tmp_path: Any) -> None:
    ladder, configurations = ladder_of(chosen=["kernel"], whole=True)
    record: Record = measured(ladder, configurations, multiplied(kernel=1.0), rounds=0)[0]
    path = record_path(tmp_path, "c", "ladder", "x")
    write_record(record, path)
    again = read_record(path)
    assert isinstance(again.measured, Ladder)
    assert again == record
