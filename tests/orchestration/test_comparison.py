"""What a comparison runs: rounds in rotated order, and trainings to budgets that follow from the measured speeds."""

import re
from pathlib import Path

import pytest

from bench.console.console import UserError
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.orchestration.budgets import image_budgets, with_training_images_and_short_warmup
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner
from bench.orchestration.runs import FunctionRun
from bench.orchestration.scope import ComparisonScope
from bench.records.record import (
    CooledDownTower,
    Failure,
    Record,
    Speed,
    Training,
    record_path,
    write_record,
)
from tests.processes import InProcess
from tests.small import circumstances, few_images
from tests.speeds import speed

PAIR = [EXPERIMENTS["clip-tiny"], EXPERIMENTS["catlip-tiny"]]
WHERE = circumstances()


class RecordingRunner(Runner):
    """Runs nothing and keeps what it was told to run, with the number of parallel runs and of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = list[tuple[list[FunctionRun], int, int]]()

    def run(self, runs: list[FunctionRun], *, max_parallel: int = 1, threads: int) -> None:
        self.calls.append((list(runs), max_parallel, threads))

    def run_interleaved(self, runs: list[FunctionRun], *, threads: int) -> None:
        self.calls.append((list(runs), len(runs), threads))


def timed(experiment: Experiment, rate: float, round_: int) -> Record:
    """A run at so many images per second."""
    measured = speed(
        round=round_,
        window_seconds=(experiment.images_per_device_in_window / rate,)
        * experiment.timing.timed_windows,
    )
    return Record(comparison="c", experiment=experiment, circumstances=WHERE, measured=measured)


def training_record(experiment: Experiment, budgets: dict[str, int]) -> Record:
    """A training with a tower for each budget."""
    branches = tuple(
        CooledDownTower(images=size, budgets=(name,), tower=f"{size}")
        for name, size in budgets.items()
    )
    measured = Training(
        trunk_losses=(), cooldown_losses=((),) * len(branches), branches=branches, seconds=1.0
    )
    return Record(comparison="c", experiment=experiment, circumstances=WHERE, measured=measured)


def budgets_after(rates: dict[str, list[float]], folder: Path) -> dict[str, dict[str, int]]:
    """Return the budgets of trainings after rounds at these images/s."""
    for name, runs in rates.items():
        for round_, rate in enumerate(runs):
            write_record(
                timed(EXPERIMENTS[name], rate, round_),
                record_path(folder, "c", "speed", name, round_),
            )
    runner = RecordingRunner()
    comparison = Comparison("c", folder, PAIR, cores=4, on_gpu=False, runner=runner)
    comparison.train_towers(ComparisonScope("default", 6, half_way=False))
    ((runs, max_parallel, threads),) = runner.calls
    assert (max_parallel, threads) == (2, 2)
    return {
        run.experiment.name: run.arguments["images_by_budget"]
        for run in runs
        if run.experiment is not None
    }


def test_steady_speeds_give_an_equal_device_seconds_budget(tmp_path: Path) -> None:
    rates = {"clip-tiny": [1000.0, 1010.0, 990.0], "catlip-tiny": [1200.0, 1210.0, 1190.0]}
    budgets = budgets_after(rates, tmp_path)
    assert budgets["clip-tiny"] == {"equal images": 80_000, "equal device seconds": 80_000}
    assert budgets["catlip-tiny"] == {"equal images": 80_000, "equal device seconds": 96_000}
    halves = image_budgets(
        with_training_images_and_short_warmup(EXPERIMENTS["clip-tiny"], 12_800), {}, half_way=True
    )
    assert halves == {"equal images": 12_800, "half of equal images": 6_400}
    assert (
        with_training_images_and_short_warmup(
            EXPERIMENTS["clip-tiny"], 5_000
        ).training.warmup_images
        == 500
    )
    tuned = change(EXPERIMENTS["clip-tiny"], warmup_images=16_000)  # a fifth
    assert with_training_images_and_short_warmup(tuned, 40_000).training.warmup_images == 8_000
    assert with_training_images_and_short_warmup(tuned, 80_000) == tuned


@pytest.mark.parametrize("clip_rates", [[1000.0, 50.0, 990.0], [1000.0]])
def test_uncertain_speeds_give_no_budget(
    clip_rates: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run that a neighbour slowed down twentyfold must not train the others twenty times as long."""
    budgets = budgets_after(
        {"clip-tiny": clip_rates, "catlip-tiny": [1200.0] * len(clip_rates)}, tmp_path
    )
    assert set(budgets["catlip-tiny"]) == {"equal images"}
    assert "no budget of equal device seconds" in capsys.readouterr().err


def test_each_round_runs_every_experiment_once_in_another_order(tmp_path: Path) -> None:
    runner = RecordingRunner()
    experiments = [change(EXPERIMENTS["clip-tiny"], name=name) for name in "abcd"]
    Comparison("c", tmp_path, experiments, cores=2, on_gpu=False, runner=runner).measure_speed(
        range(6)
    )
    rounds = []
    for runs, _, _ in runner.calls:
        rounds.append("".join(run.experiment.name for run in runs if run.experiment))
    assert rounds[0] == "abcd"
    assert all(sorted(names) == list("abcd") for names in rounds)
    followers = {names[at : at + 2] for names in rounds for at in range(3)}
    assert all(sum(pair[0] == name for pair in followers) > 1 for name in "abcd")


def failed(kind: str, reason: str) -> Record:
    experiment = EXPERIMENTS["catlip-tiny"]
    measured = Failure(what=f"{kind} of {experiment.name}", reason=reason)
    return Record(comparison="c", experiment=experiment, circumstances=WHERE, measured=measured)


def test_failure_that_comes_again_ends_a_comparison_unless_the_experiment_was_timed(
    tmp_path: Path,
) -> None:
    runner = RecordingRunner()
    comparison = Comparison("c", tmp_path, PAIR, cores=2, on_gpu=False, runner=runner)
    for kind, reason in (("memory", "no tokens"), ("round 1", "killed")):
        write_record(failed(kind, reason), record_path(tmp_path, "c", "failure", kind))
    comparison.measure_speed(range(2))
    write_record(failed("round 2", "no tokens"), record_path(tmp_path, "c", "failure", "round 2"))
    with pytest.raises(UserError, match=r"every run would fail: catlip-tiny: no tokens$"):
        comparison.measure_speed(range(2, 3))
    write_record(
        timed(EXPERIMENTS["catlip-tiny"], 1000.0, 2), record_path(tmp_path, "c", "speed", "x")
    )
    comparison.measure_speed(range(2, 3))
    assert len(runner.calls) == 3


def test_later_rounds_on_a_cpu_have_the_flops_of_the_first(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take the same steps. A GPU is heated, which moves the steps."""
    comparison = Comparison(
        "rounds", results, [few_images("catlip")], cores=1, on_gpu=False, runner=InProcess()
    )
    comparison.measure_speed(range(1))
    monkeypatch.setattr(
        "bench.measure.speed.count_mean_step_flops", lambda *_: pytest.fail("counted again")
    )
    comparison.measure_speed(range(1, 2))
    measured = [record.measured for record in comparison.records()]
    assert [one.round for one in measured if isinstance(one, Speed)] == [0, 1]
    assert len({one.flops for one in measured if isinstance(one, Speed)}) == 1
    comparison.on_gpu = True
    (run,) = comparison.make_speed_runs(2, 3)
    assert run.arguments["flops"] is None


def test_remaining_time_is_known_after_the_first_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Logging(Runner):
        def run_interleaved(self, runs: list[FunctionRun], *, threads: int) -> None:  # noqa: ARG002
            self.progress._next_line = 0.0
            self.progress.log_run_start(runs[0].label)

    comparison = Comparison("c", tmp_path, PAIR, cores=2, on_gpu=False, runner=Logging())
    comparison.measure_speed(range(1))
    comparison.runner.progress.set_remaining_seconds(600.0)
    comparison.measure_speed(range(1, 2))
    first, second = capsys.readouterr().err.splitlines()
    assert "estimating | speed of clip-tiny, round 1 of 1" in first
    assert re.search(r"about 0:(10:00|09:5\d) left \| speed of clip-tiny, round 2 of 2", second)
