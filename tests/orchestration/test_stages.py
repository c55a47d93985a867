"""The first round shows how long the later stages take, and what of them fits into a time."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.default_comparison import plan_remaining_stages
from bench.experiment.experiments import DEFAULT_METHODS, EXPERIMENTS
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.orchestration.scope import MAX_IMAGES, make_scopes_by_name
from bench.orchestration.stages import (
    IMAGES_STEP,
    MAX_SEEDS,
    MIN_IMAGES,
    RemainingStageTimes,
    estimate_remaining_stage_times,
    fit_scope_to_time,
)
from bench.records.record import record_path, write_record
from bench.statistics.ratios import MIN_RUNS
from tests.orchestration.test_comparison import timed

DEFAULT = [EXPERIMENTS[f"{name}-tiny"] for name in DEFAULT_METHODS]
SCOPE = make_scopes_by_name(on_gpu=False)["default"]
SMALLEST = replace(SCOPE, rounds=MIN_RUNS, images=MIN_IMAGES, half_way=False, curves=())


@given(st.floats(1, 1e5), st.floats(1, 1e3), st.floats(0, 1e5))
def test_most_that_fits_into_the_time_is_chosen(
    rate: float, round_seconds: float, seconds: float
) -> None:
    times = RemainingStageTimes(len(DEFAULT), 2, round_seconds, rate)
    scope = fit_scope_to_time(SCOPE, seconds, times.expected_seconds_left)
    assert scope.images is not None
    assert MIN_IMAGES <= scope.images <= MAX_IMAGES
    assert MIN_RUNS <= scope.rounds <= SCOPE.rounds
    assert times.expected_seconds_left(scope) <= seconds or scope == SMALLEST
    larger = scope
    if scope.rounds < SCOPE.rounds:
        larger = replace(scope, rounds=scope.rounds + 1)
    elif not scope.half_way:
        larger = replace(SCOPE, images=MIN_IMAGES)
    elif scope.images < MAX_IMAGES:
        larger = replace(scope, images=scope.images + IMAGES_STEP)
    elif len(scope.seeds) < MAX_SEEDS:
        larger = replace(scope, seeds=(*scope.seeds, len(scope.seeds)))
    assert larger == scope or times.expected_seconds_left(larger) > seconds


def test_more_time_or_a_faster_machine_never_trains_less() -> None:
    sizes = list[tuple[int, int, int | None]]()
    for rate, minutes in ((100.0, 10), (100.0, 30), (400.0, 30), (400.0, 60), (1600.0, 60)):
        times = RemainingStageTimes(len(DEFAULT), 2, 40.0, rate)
        scope = fit_scope_to_time(SCOPE, 60 * minutes, times.expected_seconds_left)
        sizes.append((scope.rounds, len(scope.seeds), scope.images))
    assert sizes == sorted(sizes)
    two_quiet_cores = RemainingStageTimes(len(DEFAULT), 2, 40.0, 900.0)
    scope = fit_scope_to_time(SCOPE, 11 * 60, two_quiet_cores.expected_seconds_left)
    assert (scope.rounds, scope.seeds) == (10, (0,))


def test_first_round_tells_the_rate_of_the_slowest_experiment() -> None:
    rates = (1000.0, 800.0, 1200.0, 900.0)
    records = [timed(experiment, rate, 0) for experiment, rate in zip(DEFAULT, rates, strict=True)]
    times = estimate_remaining_stage_times([*records, timed(DEFAULT[0], 1.0, 1)], 4, 2, 40.0)
    assert times is not None
    assert times.images_per_second == pytest.approx(800.0)
    assert estimate_remaining_stage_times(records[1:], 4, 2, 40.0) is None


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """A comparison after its first round."""
    for experiment in DEFAULT:
        path = record_path(tmp_path, "c", "speed", experiment.name, "round00")
        write_record(timed(experiment, 900.0, 0), path)
    return Comparison("c", tmp_path, DEFAULT, 2, on_gpu=False, runner=Runner(), round_seconds=40.0)


@pytest.mark.parametrize("name", ["default", "full"])
def test_stages_are_planned_once_and_kept_for_a_resumed_comparison(
    name: str, comparison: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the default scope is fitted to the time that is left."""
    scope, times = (
        make_scopes_by_name(on_gpu=False)[name],
        comparison.estimate_remaining_stage_times(),
    )
    assert times is not None
    planned = plan_remaining_stages(comparison, scope, times, 5 * 60, is_limit=False)
    assert (planned == scope) == (name != "default")
    assert capsys.readouterr().err.startswith(f"planned: {planned.rounds} rounds of speed, ")
    assert plan_remaining_stages(comparison, scope, times, 0.0, is_limit=True) == planned


def test_limit_that_is_too_short_is_refused_with_one_that_is_enough(comparison: Comparison) -> None:
    times = comparison.estimate_remaining_stage_times()
    assert times is not None
    with pytest.raises(ValueError, match="--minutes is too short") as refused:
        plan_remaining_stages(comparison, SCOPE, times, 60.0, is_limit=True)
    text = str(refused.value)
    assert text.endswith(f"report build {os.path.relpath(comparison.results)}")
    minutes = int(text.partition("--resume --minutes ")[2].partition(",")[0])
    planned = plan_remaining_stages(comparison, SCOPE, times, 60.0 * minutes, is_limit=True)
    assert times.expected_seconds_left(planned) <= 60.0 * minutes
