"""Images and seeds of the default comparison are those that fit into its time."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bench.cli.compare as compare_module
from bench.cli.compare import Bench
from bench.console.console import OK
from bench.console.progress import Progress
from bench.experiment.config import change
from bench.experiment.experiments import COMPARED, EXPERIMENTS
from bench.orchestration.budgets import set_images
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import (
    IMAGES_STEP,
    MAX_IMAGES,
    MAX_SEEDS,
    MIN_IMAGES,
    TWO_CORES,
    Pace,
    choose_images_and_seeds,
)
from bench.orchestration.runner import Runner
from bench.orchestration.scope import Scope, scopes
from bench.orchestration.trial import fastest_two_agree, plan_default
from bench.records.record import record_path, write_record
from tests.orchestration.test_comparison import timed

DEFAULT = [EXPERIMENTS[f"{name}-tiny"] for name in COMPARED], scopes(on_gpu=False)["default"]
paces = st.builds(Pace, st.floats(0.5, 60), st.floats(1e-5, 1e-2))


@given(st.floats(0, 1e4), st.floats(1e-5, 1), st.floats(0, 1e5))
def test_most_that_fits_is_chosen(fixed: float, per_image: float, seconds: float) -> None:
    def expected(images: int, seeds: int) -> float:
        return fixed + per_image * images * seeds

    images, seeds = choose_images_and_seeds(expected, seconds)
    is_least, is_most = (images, seeds) == (MIN_IMAGES, 1), (images, seeds) == (MAX_IMAGES, MAX_SEEDS)
    assert expected(images, seeds) <= seconds or is_least or (seeds == 1 and images == MAX_IMAGES)
    is_cheap = expected(MAX_IMAGES, 1) <= 1.1 * expected(MIN_IMAGES, 1)
    if is_cheap:
        assert images == MAX_IMAGES
    more = (MAX_IMAGES, seeds + 1) if images == MAX_IMAGES else (images + IMAGES_STEP, 1)
    assert is_most or expected(*more) > seconds


@settings(max_examples=5)
@given(paces, st.floats(1, 100), st.floats(1, 10))
def test_more_time_or_a_faster_machine_never_trains_less(pace: Pace, minutes: float, times: float) -> None:
    def size(minutes: float, pace: Pace) -> tuple[int, int]:
        plan = plan_default(*DEFAULT, pace, minutes)
        return len(plan.scope.seeds), plan.experiments[0].training.images

    assert size(minutes, pace) <= size(times * minutes, pace)
    assert size(minutes, pace) >= size(minutes, pace.slowed(times))
    resumed = plan_default(*DEFAULT, pace, minutes, 33_000, 2)
    assert resumed.experiments[0].training.images == 33_000
    assert len(resumed.scope.seeds) >= 2
    assert len(resumed.scope.seeds) == 2 or resumed.expected_seconds <= 60 * minutes


def test_resumed_comparison_keeps_its_images_and_a_new_one_plans_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given, seeds = list[Any](), list[int]()

    def compared(_: Bench, experiments: list[Any], scope: Scope, _pace: Pace, _deadline: float) -> Comparison:
        given.extend(experiments)
        seeds.append(len(scope.seeds))
        return trial

    trial = Comparison("trial", tmp_path, [], 2, on_gpu=False, runner=Runner(Progress(0.0)))
    monkeypatch.setattr(compare_module, "run_trial", lambda *_: (trial, TWO_CORES))
    monkeypatch.setattr(Bench, "_compare", compared)
    with pytest.raises(ValueError, match="no 'default' comparison to resume"):
        Bench(resume=True, results=tmp_path).run()
    path = record_path(tmp_path, "20260101T000000-default", "speed", "x")
    write_record(timed(change(set_images(EXPERIMENTS["clip-tiny"], 33_000), seed=2), 1000.0, 0), path)
    assert Bench(resume=True, minutes=1, results=tmp_path).run() == OK
    assert [one.training.images for one in given] == [33_000] * len(COMPARED)
    assert seeds == [3]
    with pytest.raises(ValueError, match="leave out --smoke or --minutes"):
        Bench(minutes=5, smoke=True).run()
    given.clear()
    assert Bench(minutes=1, results=tmp_path).run() == OK
    assert [one.training.images for one in given] == [MIN_IMAGES] * len(COMPARED)
    text = capsys.readouterr().err
    assert "planned: 10 rounds of speed and up to 5 repeated, 1 seed of 20,000 images for each method" in text
    assert "more than the 1 min of --minutes: fewer rounds or images give no verdict" in text
    assert "--minutes 2 would do: 10 rounds" in text


@pytest.mark.parametrize(
    ("rates", "agree"),
    [([], False), ([1000], False), ([1000, 900], True), ([1000, 800], False), ([400, 1000, 300, 950], True)],
)
def test_trial_ends_when_its_two_fastest_runs_agree(rates: list[float], agree: bool) -> None:
    assert fastest_two_agree([Pace(3.0, 1 / rate) for rate in rates]) is agree
