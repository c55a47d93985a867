"""The first round shows how long the later stages take, and what of them fits into a time."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.default_comparison import plan_stages
from bench.experiment.experiments import DEFAULT_METHODS, EXPERIMENTS
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.orchestration.scope import scopes
from bench.orchestration.stages import (
    IMAGES_STEP,
    MAX_IMAGES,
    MAX_SEEDS,
    MIN_IMAGES,
    StageTimes,
    fit_stages,
    read_first_round,
)
from bench.records.record import record_path, write_record
from bench.statistics.ratios import MIN_RUNS
from tests.orchestration.test_comparison import timed

DEFAULT = [EXPERIMENTS[f"{name}-tiny"] for name in DEFAULT_METHODS]
SCOPE = scopes(on_gpu=False)["default"]


@given(st.floats(1, 1e5), st.floats(1, 1e3), st.floats(0, 1e5))
def test_most_that_fits_into_the_time_is_chosen(
    rate: float, round_seconds: float, seconds: float
) -> None:
    times = StageTimes(len(DEFAULT), 2, round_seconds, rate)
    scope, images = fit_stages(SCOPE, seconds, times.seconds_left)
    assert MIN_IMAGES <= images <= MAX_IMAGES
    assert MIN_RUNS <= scope.rounds <= SCOPE.rounds
    assert times.seconds_left(scope, images) <= seconds or scope.rounds == MIN_RUNS
    if images == MAX_IMAGES and scope.rounds == SCOPE.rounds and len(scope.seeds) < MAX_SEEDS:
        more = replace(scope, seeds=(*scope.seeds, len(scope.seeds)))
        assert times.seconds_left(more, images) > seconds
    elif images < MAX_IMAGES and scope.rounds == SCOPE.rounds:
        assert times.seconds_left(scope, images + IMAGES_STEP) > seconds
    elif scope.rounds < SCOPE.rounds:
        assert times.seconds_left(replace(scope, rounds=scope.rounds + 1), images) > seconds


def test_more_time_or_a_faster_machine_never_trains_less() -> None:
    sizes = list[tuple[int, int, int]]()
    for rate, minutes in ((100.0, 10), (100.0, 30), (400.0, 30), (400.0, 60), (1600.0, 60)):
        times = StageTimes(len(DEFAULT), 2, 40.0, rate)
        scope, images = fit_stages(SCOPE, 60 * minutes, times.seconds_left)
        sizes.append((scope.rounds, len(scope.seeds), images))
    assert sizes == sorted(sizes)


def test_first_round_tells_the_rate_of_the_slowest_experiment() -> None:
    rates = (1000.0, 800.0, 1200.0, 900.0)
    records = [timed(experiment, rate, 0) for experiment, rate in zip(DEFAULT, rates, strict=True)]
    times = read_first_round([*records, timed(DEFAULT[0], 1.0, 1)], DEFAULT, 2, 40.0)
    assert times is not None
    assert times.images_per_second == pytest.approx(800.0)
    assert read_first_round(records[1:], DEFAULT, 2, 40.0) is None


@pytest.mark.parametrize(
    ("name", "images", "rounds"), [("default", None, 10), ("full", 320_000, 10), ("smoke", 2048, 1)]
)
def test_stages_are_planned_once_and_kept_for_a_resumed_comparison(
    name: str, images: int | None, rounds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the default scope is fitted to the time that is left."""
    for experiment in DEFAULT:
        path = record_path(tmp_path, "c", "speed", experiment.name, "round00")
        write_record(timed(experiment, 900.0, 0), path)
    comparison = Comparison(
        "c", tmp_path, DEFAULT, 2, on_gpu=False, runner=Runner(), round_seconds=40.0
    )
    scope, planned = plan_stages(comparison, scopes(on_gpu=False)[name], 11 * 60)
    assert scope.rounds == rounds
    assert planned == images or (images is None and MIN_IMAGES <= planned <= MAX_IMAGES)
    assert capsys.readouterr().err.startswith(f"planned: {rounds} rounds of speed, ")
    assert plan_stages(comparison, scopes(on_gpu=False)[name], 0.0) == (scope, planned)
