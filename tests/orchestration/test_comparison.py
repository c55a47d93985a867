"""Which budgets the speed records allow."""

import dataclasses
import math
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.console.progress import Progress
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.orchestration.comparison import Comparison
from bench.orchestration.request_base import Request
from bench.orchestration.runner import Job, Runner
from bench.orchestration.scope import Scope
from bench.records.record import OTHERS_BUSY, Branch, Record, Training, record_path, write_record
from tests.small import circumstances
from tests.speeds import speed

PAIR = [EXPERIMENTS["clip-tiny"], EXPERIMENTS["catlip-tiny"]]
WHERE = circumstances()


Noted = tuple[Request, int, int]  # with how many beside it, and how many threads


class RecordingRunner(Runner):
    """Runs nothing and keeps what it was told to run."""

    def __init__(self) -> None:
        super().__init__(Progress(1.0))
        self.noted, self.rounds = list[Noted](), list[list[Noted]]()

    def run(self, jobs: list[Job], *, max_parallel: int = 1, threads: int) -> None:
        self.noted = [(job.request, max_parallel, threads) for job in jobs]

    def run_interleaved(self, jobs: list[Job], *, threads: int) -> None:
        self.rounds.append([(job.request, len(jobs), threads) for job in jobs])


def timed(experiment: Experiment, rate: float, round_: int) -> Record:
    """A run at so many images per second."""
    measured = speed(round=round_, window_seconds=(experiment.images_per_window / rate,) * experiment.timing.windows)
    return Record(comparison="c", experiment=experiment, circumstances=WHERE, measured=measured)


def training_record(experiment: Experiment, budgets: dict[str, int]) -> Record:
    """A training with a tower for each budget."""
    branches = tuple(Branch(images=size, budgets=(name,), tower=f"{size}") for name, size in budgets.items())
    measured = Training(trunk_losses=(), cooldown_losses=((),) * len(branches), branches=branches, seconds=1.0)
    return Record(comparison="c", experiment=experiment, circumstances=WHERE, measured=measured)


def budgets_after(rates: dict[str, list[float]], tmp_path: Path) -> dict[str, dict[str, int]]:
    for name, runs in rates.items():
        for round_, rate in enumerate(runs):
            write_record(timed(EXPERIMENTS[name], rate, round_), record_path(tmp_path, "c", "speed", name, round_))
    runner = RecordingRunner()
    comparison = Comparison("c", tmp_path, PAIR, cores=4, on_gpu=False, runner=runner)
    comparison.train(Scope("default", 6, half_way=False))
    assert [(lanes, threads) for _, lanes, threads in runner.noted] == [(2, 2)] * 2
    return {request.experiment.name: request.budgets for request, _, _ in runner.noted}


def test_steady_speeds_give_an_equal_device_seconds_budget(tmp_path: Path) -> None:
    rates = {"clip-tiny": [1000.0, 1010.0, 990.0], "catlip-tiny": [1200.0, 1210.0, 1190.0]}
    budgets = budgets_after(rates, tmp_path)
    assert budgets["clip-tiny"] == {"equal images": 80_000, "equal device seconds": 80_000}
    assert budgets["catlip-tiny"] == {"equal images": 80_000, "equal device seconds": 96_000}


def test_disturbed_run_gives_no_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One run that a neighbour slowed down twentyfold must not train the others twenty times as long."""
    budgets = budgets_after({"clip-tiny": [1000.0, 50.0, 990.0], "catlip-tiny": [1200.0, 1210.0, 1190.0]}, tmp_path)
    assert set(budgets["catlip-tiny"]) == {"equal images"}
    assert "no budget of equal device seconds" in capsys.readouterr().err


def test_one_round_gives_no_budget(tmp_path: Path) -> None:
    assert set(budgets_after({"clip-tiny": [1000.0], "catlip-tiny": [1200.0]}, tmp_path)["clip-tiny"]) == {
        "equal images"
    }


class Adding(Runner):
    """Runs nothing and adds up how long it would take."""

    expected = 0.0

    def run(self, jobs: list[Job], **_: int) -> None:
        self.expected += sum(job.expected_seconds for job in jobs)

    run_interleaved = run


class BusyMachine(Runner):
    """Writes the records of rounds in which other processes kept the machine busy, until it is quiet."""

    def __init__(self, folder: Path, quiet_from: int) -> None:
        super().__init__(Progress(1.0))
        self.folder, self.quiet_from, self.rounds = folder, quiet_from, 0

    def run_interleaved(self, jobs: list[Job], **_: int) -> None:
        for job in jobs:
            one, round_ = job.request.experiment, self.rounds
            measured = timed(one, 1000.0, round_).measured
            readings = {OTHERS_BUSY: 60.0 if round_ < self.quiet_from else 0.0}
            record = replace(timed(one, 1000.0, round_), measured=replace(measured, utilisation=readings))
            write_record(record, record_path(self.folder, "c", "speed", one.name, round_))
        self.rounds += 1


def trained_until(folder: Path, deadline: float) -> tuple[list[dict[str, int]], float]:
    """Return the budgets of each training, and the seconds expected until the end, with so many until the deadline."""
    runner, scope = RecordingRunner(), Scope("default", 0)
    comparison = Comparison("c", folder, PAIR, cores=2, on_gpu=False, runner=runner)
    runner.progress.expect(comparison.expected_seconds(scope))
    runner.deadline = time.monotonic() + deadline
    comparison.train(scope)
    return [request.budgets for request, _, _ in runner.noted], runner.progress.seconds_left()


def test_trainings_are_shortened_where_the_comparison_would_end_after_its_deadline(tmp_path: Path) -> None:
    """They stay so when the comparison is resumed, however much time there is then."""
    planned, seconds = trained_until(tmp_path, math.inf)
    assert [one["equal images"] for one in planned] == [80_000] * 2
    shortened, left = trained_until(tmp_path, 0.8 * seconds)
    assert 0.7 * seconds < left <= 0.8 * seconds
    (images,) = {one["equal images"] for one in shortened}
    assert 40_000 < images < 80_000
    assert {one["half of equal images"] for one in shortened} <= {images // 2, images // 2 + 64}  # whole batches
    assert trained_until(tmp_path, 0.0)[0][0]["equal images"] == 40_064  # 313 batches

    write_record(training_record(PAIR[0], shortened[0]), record_path(tmp_path, "c", "training", PAIR[0].name))
    assert trained_until(tmp_path, math.inf)[0] == shortened


@pytest.mark.parametrize(("missing", "rounds"), [(0, 10), (2, 8), (20, 5)])
def test_fewer_rounds_are_run_where_shorter_trainings_do_not_end_a_comparison_in_time(
    missing: int, rounds: int, tmp_path: Path
) -> None:
    """With the shortest trainings, the time of so many of the ten expected rounds is missing."""
    scope, runner = Scope("default", 10), BusyMachine(tmp_path, quiet_from=0)
    comparison = Comparison("c", tmp_path, PAIR, cores=2, on_gpu=False, runner=runner)
    shortest = dataclasses.replace(comparison, experiments=[change(one, images=40_000) for one in PAIR])
    left = shortest.expected_seconds(scope) - missing * sum(map(comparison.pace.speed_run_seconds, PAIR))
    runner.progress.expect(comparison.expected_seconds(scope))
    runner.deadline = time.monotonic() + left + 2
    comparison.measure(scope)
    assert runner.rounds == rounds


def test_each_round_runs_every_experiment_once_in_another_order(tmp_path: Path) -> None:
    runner = RecordingRunner()
    four = [change(EXPERIMENTS["clip-tiny"], name=name) for name in "abcd"]
    Comparison("c", tmp_path, four, cores=2, on_gpu=False, runner=runner).measure(Scope("measure", 6))
    rounds = ["".join(request.experiment.name for request, _, _ in round_) for round_ in runner.rounds]
    assert len(rounds) == 6
    assert all(sorted(round_) == list("abcd") for round_ in rounds)
    assert rounds[0] == "abcd"
    assert len(set(rounds)) > 3
    followers = {name: {round_[i + 1] for round_ in rounds for i in range(3) if round_[i] == name} for name in "abcd"}
    assert all(len(after) > 1 for after in followers.values())
