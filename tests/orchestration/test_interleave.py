"""Interleaved runs: one works at a time, in order, until all are gone, however they end."""

import os
import subprocess
import sys
from pathlib import Path
from socket import socketpair

import pytest

from bench.experiment.config import change
from bench.orchestration.comparison import Comparison
from bench.orchestration.runner import Runner, TimeSlotSockets, grant_time_slots_in_turn
from bench.records.record import Speed, read_record
from tests.small import few_images

RUN = """
import os, sys, time
from bench.environment.slots import stop_slot_inheritance, wait_for_slot, yield_and_wait_for_slot
stop_slot_inheritance()
wait_for_slot()
for turn in range(int(sys.argv[2])):
    with open("log", "a") as log:
        log.write(f"{sys.argv[1]} begins\\n")
    time.sleep(0.01)
    with open("log", "a") as log:
        log.write(f"{sys.argv[1]} ends\\n")
    if turn == int(sys.argv[3]):
        raise SystemExit("died")
    yield_and_wait_for_slot()
"""


def start(
    folder: Path, seat: TimeSlotSockets, name: str, turns: int, dies_in: int = -1
) -> subprocess.Popen[bytes]:
    """Start a run with a seat; here its ends are closed, as the runner closes them."""
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, name, str(turns), str(dies_in)],
        cwd=folder,
        env=os.environ | seat.environment_variable | {"PYTHONPATH": str(Path(__file__).parents[2])},
        pass_fds=[seat.run.fileno()],
        stderr=subprocess.DEVNULL,
    )
    seat.run.close()
    return child


def test_one_process_runs_at_a_time_in_order(tmp_path: Path) -> None:
    seats = {name: TimeSlotSockets(*socketpair()) for name in "abc"}
    runs = [start(tmp_path, seats["a"], "a", 3), start(tmp_path, seats["b"], "b", 4, dies_in=1)]
    seats["c"].run.close()  # a run that was never started
    grant_time_slots_in_turn(seats.values())
    assert [run.wait() for run in runs] == [0, 1]
    turns = ["a", "b", "a", "b", "a"]
    text = (tmp_path / "log").read_text().splitlines()
    assert text == [f"{name} {what}" for name in turns for what in ("begins", "ends")]


def test_run_ends_if_its_scheduler_is_gone(tmp_path: Path) -> None:
    seat = TimeSlotSockets(*socketpair())
    run = start(tmp_path, seat, "a", 1)
    seat.scheduler.close()
    assert run.wait(30) == 1


@pytest.mark.slow
def test_interleaved_runs_leave_a_record_and_the_reason_of_one_that_fails(
    results: Path,
) -> None:
    experiment = few_images("catlip")
    broken = change(experiment, learning_rate=1e30, name="diverges")
    runner = Runner()
    comparison = Comparison(
        "turns", results, [experiment, broken], cores=1, on_gpu=False, runner=runner
    )
    runs = comparison.make_speed_runs(0, 1)
    runner.run_interleaved(runs, threads=1)
    (failure,) = runner.failures
    assert failure.startswith("speed of diverges, round 1 of 1: ")
    assert "is not finite" in failure
    speed = read_record(runs[0].first_file).measured
    assert isinstance(speed, Speed)
    assert len(speed.window_seconds) >= experiment.timing.timed_windows
    assert {len(seconds) for seconds in speed.phase_seconds.values()} == {
        len(speed.phase_seconds["backward"])
    }
    assert 0 < speed.utilisation["process CPU busy percent"] <= 100
