"""Trainings that are killed again and again, and resumed: nothing is lost, the end is the same."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.console.console import FAILED_CASE
from bench.train.checkpoints import list_checkpoints_newest_first
from tests.chaos.commands import (
    LONGEST,
    Process,
    child_runs,
    descendants,
    end,
    latest_step,
    read_record_files,
    start_command,
    training_of,
    wait_for_exit,
    wait_while_running,
)
from tests.chaos.conftest import Tries
from tests.processes import have_ended

KILLED = (-signal.SIGKILL, FAILED_CASE)  # the command line itself, or the run that it reports
MOST_KILLS = 10  # of one command
STEPS_PER_KILL, FEWEST_STEPS, BATCH = 40, 80, 16
TRAINING = 2.0  # seconds, about, that steps are taken before a kill
METHODS = (("catlip-tiny", ()), ("superclass-tiny", ("--set", "ema_decay=0.9")))
Kill = Callable[[Process, Path, random.Random], None]


def end_by_itself(words: Sequence[str], out: Path) -> None:
    log = out.with_suffix(".log")
    process = start_command(words, log, core=0)
    try:
        assert wait_for_exit(process, LONGEST) == 0, log.read_text()[-2000:]
    finally:
        end(process)


def kill_and_resume(
    words: Sequence[str],
    out: Path,
    begun: Callable[[Path], object],
    kill: Kill,
    draw: random.Random,
    kills: int,
) -> int:
    """Kill a command up to so many times, and resume it until it ends by itself; return how often it was killed.

    No process stays, and after each kill checkpoints and records are whole and no fewer than before.
    """
    known, step, log = dict[str, bytes](), 0, out.with_suffix(".log")
    for done in range(kills):
        process = start_command([*words, *(["--resume"] if begun(out) else [])], log, core=0)
        try:
            kill(process, out, draw)
            if wait_for_exit(process, 0) == 0:
                return done
            assert process.wait() in KILLED, log.read_text()[-2000:]
            assert have_ended(child_runs(process))
        finally:
            end(process)
        found = read_record_files(out)
        assert {name: found.get(name) for name in known} == known
        assert latest_step(out) >= step
        known, step = found, latest_step(out)
    end_by_itself([*words, *(["--resume"] if begun(out) else [])], out)
    assert {name: read_record_files(out).get(name) for name in known} == known
    return kills


def kill_training(process: Process, out: Path, draw: random.Random) -> None:
    """Kill the command line, or the process that trains, or both at once, as if the power failed; steps are taken."""
    folder = out / "checkpoints"
    before = list_checkpoints_newest_first(folder)[:1]
    wait_while_running(process, lambda: list_checkpoints_newest_first(folder)[:1] != before)
    deadline = time.monotonic() + draw.uniform(0, TRAINING)
    wait_while_running(process, lambda: time.monotonic() > deadline)
    which, runs = draw.choices(("both", "command line", "run"), (5, 3, 2))[0], descendants(process)
    if which != "run" or not runs:
        process.kill()
    for run in runs if which != "command line" else []:
        run.kill()
    wait_for_exit(process)


def kill_at_once(process: Process, _: Path, draw: random.Random) -> None:
    """Kill the command line while modules are imported and data are loaded."""
    time.sleep(draw.uniform(0, 6))
    process.kill()
    wait_for_exit(process)


@pytest.mark.exhaustive
def test_killed_training_resumes_to_the_same_losses_and_tower(
    tries: Tries, own_results: Path
) -> None:
    """To the last bit."""
    kills, done, draw, number = tries(few=1, full=60), 0, tries.random, 0
    while done < kills:
        (name, changes), more = METHODS[number % len(METHODS)], min(MOST_KILLS, kills - done)
        steps = max(FEWEST_STEPS, STEPS_PER_KILL * more)
        words = ["-m", "bench", "train", name, *changes, "--images-seen", str(BATCH * steps)]
        for setting in (f"batch_size={BATCH}", "subset=random:500", f"seed={number}"):
            words += ["--set", setting]
        out, whole = own_results / f"killed{number}", own_results / f"unkilled{number}"
        # Every twenty steps.
        often = [
            *words,
            "--task",
            "unseen subgroup",
            "--checkpoint-minutes",
            "0.0001",
            "--out",
            str(out),
        ]
        kill = kill_at_once if tries.share and number % 4 == 3 else kill_training
        done += kill_and_resume(
            often,
            out,
            lambda out: list_checkpoints_newest_first(out / "checkpoints"),
            kill,
            draw,
            more,
        )
        end_by_itself([*words, "--no-score", "--out", str(whole)], whole)
        assert training_of(out) == training_of(whole)
        number += 1
