"""The first round shows how long the later stages take, and what of them fits into a time."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.default_comparison import keep_trained, plan_later_stages
from bench.experiment.config import change
from bench.experiment.experiments import COMPARED, EXPERIMENTS
from bench.orchestration.budgets import set_images
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.orchestration.scope import Scope, scopes
from bench.orchestration.stages import (
    IMAGES_STEP,
    MAX_IMAGES,
    MAX_SEEDS,
    MIN_IMAGES,
    FirstRound,
    StageTimes,
    fit_stages,
    read_first_round,
)
from bench.records.record import record_path, write_record
from bench.statistics.ratios import MIN_ROUNDS
from tests.orchestration.test_comparison import timed, training_record

DEFAULT = [EXPERIMENTS[f"{name}-tiny"] for name in COMPARED]
SCOPE = scopes(on_gpu=False)["default"]


def stage_times(rate: float, start_seconds: float = 4.0, round_seconds: float = 40.0) -> StageTimes:
    first_round = FirstRound(round_seconds, start_seconds, {one.name: rate for one in DEFAULT})
    return StageTimes(first_round, DEFAULT, max_parallel=2, on_gpu=False)


@given(st.floats(1, 1e5), st.floats(0, 60), st.floats(1, 1e3), st.floats(0, 1e5))
def test_most_that_fits_into_the_time_is_chosen(
    rate: float, start: float, round_: float, seconds: float
) -> None:
    times = stage_times(rate, start, round_)
    scope, images = fit_stages(SCOPE, seconds, times.seconds_left)
    assert MIN_IMAGES <= images <= MAX_IMAGES
    assert MIN_ROUNDS <= scope.rounds <= SCOPE.rounds
    assert times.seconds_left(scope, images) <= seconds or scope.rounds == MIN_ROUNDS
    if images == MAX_IMAGES and scope.rounds == SCOPE.rounds and len(scope.seeds) < MAX_SEEDS:
        more = replace(scope, seeds=(*scope.seeds, len(scope.seeds)))
        assert times.seconds_left(more, images) > seconds
    elif images < MAX_IMAGES and scope.rounds == SCOPE.rounds:
        assert times.seconds_left(scope, images + IMAGES_STEP) > seconds
    elif scope.rounds < SCOPE.rounds:
        assert times.seconds_left(replace(scope, rounds=scope.rounds + 1), images) > seconds


def test_two_quiet_cores_train_all_images_of_one_seed_in_twelve_minutes() -> None:
    times = stage_times(900.0)
    # A minute for memory and the first round.
    scope, images = fit_stages(SCOPE, 12 * 60 - 60, times.seconds_left)
    assert scope.rounds == 10
    assert len(scope.seeds) == 1
    assert images >= 20_000


def test_more_time_or_a_faster_machine_never_trains_less() -> None:
    sizes = list[tuple[int, int, int]]()
    for rate, minutes in ((100.0, 10), (100.0, 30), (400.0, 30), (400.0, 60), (1600.0, 60)):
        scope, images = fit_stages(SCOPE, 60 * minutes, stage_times(rate).seconds_left)
        sizes.append((scope.rounds, len(scope.seeds), images))
    assert sizes == sorted(sizes)


def test_first_round_tells_start_and_rates_of_a_run() -> None:
    records = [timed(one, 1000.0, 0) for one in DEFAULT]
    for record in records:
        step_seconds = record.measured.warmup_seconds + sum(record.measured.window_seconds)
        step_seconds += sum(map(sum, record.measured.phase_seconds.values()))
    first_round = read_first_round(records, DEFAULT, len(DEFAULT) * (step_seconds + 3.0))
    assert first_round is not None
    assert first_round.start_seconds == pytest.approx(3.0)
    assert first_round.rates == pytest.approx({one.name: 1000.0 for one in DEFAULT})
    assert read_first_round(records[1:], DEFAULT, 1.0) is None


def test_resumed_comparison_keeps_rounds_seeds_and_images_of_its_trainings() -> None:
    records = [timed(EXPERIMENTS["clip-tiny"], 1000.0, round_) for round_ in range(7)]
    assert keep_trained(records, SCOPE) == (SCOPE, None)
    trained = change(set_images(EXPERIMENTS["clip-tiny"], 33_000), seed=1)
    scope, images = keep_trained(
        [*records, training_record(trained, {"equal images": 33_024})], SCOPE
    )
    assert (scope.rounds, scope.seeds, images) == (7, (0, 1), 33_000)
    assert fit_stages(scope, 0.0, stage_times(900.0).seconds_left, images) == (scope, images)


def test_scopes_have_enough_rounds_for_their_ratios() -> None:
    assert scopes(on_gpu=True)["default"].rounds == 6
    assert scopes(on_gpu=False)["default"].rounds == 10
    assert Scope("x", 1, tasks=()).protocols_and_tasks == []


@pytest.mark.parametrize(
    ("name", "images", "rounds"), [("default", None, 10), ("full", 320_000, 10), ("smoke", 2048, 1)]
)
def test_stages_are_planned_once_after_the_first_round(
    name: str, images: int | None, rounds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the default scope is fitted to the time that is left."""
    for experiment in DEFAULT:
        write_record(
            timed(experiment, 900.0, 0),
            record_path(tmp_path, "c", "speed", experiment.name, "round00"),
        )
    comparison = Comparison(
        "c", tmp_path, DEFAULT, 2, on_gpu=False, runner=Runner(), round_seconds=40.0
    )
    scope, planned, later_seconds = plan_later_stages(
        comparison,
        scopes(on_gpu=False)[name],
        12.0 if images is None else None,
        time.monotonic() - 60,
    )
    assert scope.rounds == rounds
    assert planned == images or (images is None and MIN_IMAGES <= planned < MAX_IMAGES)
    assert later_seconds < 12 * 60 or name == "full"
    assert capsys.readouterr().err.startswith(f"planned: {rounds} rounds of speed, ")
