"""A ratio is decomposed into the ratios of neighbours on the ladder, each beside what FLOPs predict."""

import math

import pytest
from msgspec.structs import replace

from bench.features.explain.decomposition import RatioDecomposition, decompose_ratio_by_ladder
from bench.features.explain.ladder import HEAD, PADDING, TEXT_TOWER
from bench.features.explain.tables import cause_table
from bench.records.record import Record, Speed
from bench.statistics.ratios import RateRatio
from tests.features.explain.ladders import ladder_of, measured

LOGS = [0.0, math.log(1.3), math.log(1.56), math.log(1.5756)]


def decomposition(records: list[Record]) -> RatioDecomposition:
    result = decompose_ratio_by_ladder(records)
    assert result is not None
    return result


def known(ratio: RateRatio | None) -> RateRatio:
    assert ratio is not None
    return ratio


def test_each_cause_has_its_ratio_and_the_causes_make_the_whole() -> None:
    result = decomposition(measured(*ladder_of(), LOGS, spread=0.001))
    assert [cause.cause for cause in result.causes] == [PADDING, TEXT_TOWER, HEAD]
    for get in (lambda cause: cause.forward_backward, lambda cause: cause.whole_step):
        ratios = [known(get(cause)).value for cause in result.causes]
        assert ratios == pytest.approx([1.3, 1.2, 1.01], rel=0.002)
        assert math.prod(ratios) == pytest.approx(known(get(result.total)).value)
    assert result.num_rounds == 10
    saved = sum(cause.saved_seconds_per_image or math.nan for cause in result.causes)
    assert saved == pytest.approx(result.total.saved_seconds_per_image)
    rows = [row[0].text for row in cause_table(result).all_rows]
    assert rows == [PADDING, TEXT_TOWER, HEAD, "whole ratio"]


def test_intervals_are_over_rounds_and_their_shared_luck_does_not_widen_them() -> None:
    result = decomposition(measured(*ladder_of(), LOGS, spread=0.01))
    ratio = known(result.causes[0].forward_backward)
    assert ratio.high is not None
    assert 0.004 < math.log(ratio.high / ratio.value) < 0.02
    one_round = decomposition(measured(*ladder_of(), LOGS, rounds=1))
    assert known(one_round.causes[0].whole_step).high is None
    assert one_round.causes[0].flops_verdict == "cannot be told"


def test_each_cause_is_judged_against_flops() -> None:
    """The text tower is 30 % faster than predicted."""
    flops = [0.0, LOGS[1], LOGS[2] - 0.3, LOGS[3] - 0.3]
    result = decomposition(measured(*ladder_of(), LOGS, spread=0.001, flops=flops))
    assert [cause.flops_verdict for cause in result.causes] == [
        "consistent with FLOPs",
        "not consistent with FLOPs",
        "consistent with FLOPs",
    ]
    assert result.total.flop_ratio == pytest.approx(math.exp(flops[3]))


def kept_from_cores(record: Record) -> Record:
    """Return the record of a run whose threads waited for a core in every window and step."""
    run = record.measured
    if not isinstance(run, Speed):
        return record
    steps = len(next(iter(run.phase_seconds.values()), ()))
    waited = replace(
        run, window_core_waits=(5.0,) * len(run.window_seconds), phase_core_waits=(5.0,) * steps
    )
    return replace(record, measured=waited)


def test_rounds_that_other_work_disturbed_are_left_out() -> None:
    rows = measured(*ladder_of(), LOGS, rounds=12, spread=0.001)
    quiet = decomposition(
        [row for row in rows if not isinstance(row.measured, Speed) or row.measured.round > 2]
    )
    disturbed = decomposition(
        [
            kept_from_cores(row)
            if isinstance(row.measured, Speed) and row.measured.round <= 2
            else row
            for row in rows
        ]
    )
    assert disturbed.num_rounds == quiet.num_rounds == 9
    assert disturbed.causes == quiet.causes
    assert "were disturbed nearly throughout and are left out" in cause_table(disturbed).note
