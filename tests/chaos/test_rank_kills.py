"""Processes of a joint training killed, or held: the others do not wait for ever, and a restarted job ends the same."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.environment.variables import WATCHDOG_SECONDS
from bench.train.checkpoints import UNFINISHED, list_checkpoints_newest_first
from tests.chaos.commands import (
    LONGEST,
    POLL_OFTEN,
    Process,
    descendants,
    end,
    latest_step,
    start_command,
    training_of,
    wait_for_exit,
    wait_while_running,
)
from tests.chaos.conftest import Tries
from tests.processes import have_ended

STEPS, BATCH, RANKS = 200, 8, 2
# Seconds from a kill: until all have ended; until a restarted job is done.
EXIT_SECONDS, GOES_ON_WITHIN = (
    60.0,
    300.0,
)
HELD_WATCHDOG_SECONDS = 20  # seconds of the longest wait, in the run of which a process is held
SHARDED = ("--set", "sharding=fsdp2")
# torchrun's agents and ranks share a store by default, which may hang a restart (torch 2.13).
APART = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
# When a process is killed, and for how many seconds the moment lasts.
MOMENTS: dict[str, tuple[Callable[[Process, Path], bool], float]] = {
    "at the start": (lambda job, _: process_of(job, 0) is not None, 4.0),
    "while steps are taken": (
        lambda _, out: bool(list_checkpoints_newest_first(out / "checkpoints")),
        1.0,
    ),
    "while saving": (lambda _, out: bool(list_checkpoints_newest_first(out / "checkpoints")), 0.0),
    "while scoring": (lambda _, out: any(out.glob("*.training.*.json")), 1.0),
}


def torchrun(out: Path, restarts: int, *more: str, **variables: str) -> Process:
    launcher = ["--standalone", "--nproc-per-node", str(RANKS)]
    return train_under(launcher, out, restarts, out.with_suffix(".log"), *more, **variables)


def train_under(
    launcher: list[str],
    out: Path,
    restarts: int,
    log: Path,
    *more: str,
    core: int | None = None,
    **variables: str,
) -> Process:
    words = ["-m", "torch.distributed.run", *launcher, "--max-restarts", str(restarts)]
    words += ["-m", "bench", "train", "catlip-tiny", "--out", str(out)]
    words += ["--images-seen", str(STEPS * BATCH * RANKS), "--task", "unseen subgroup"]
    words += ["--checkpoint-minutes", "0.0001"]
    words += ["--set", f"batch_size={BATCH}", "--set", "subset=random:500", *more]
    return start_command(words, log, core, **APART | variables)


def log_of(out: Path) -> str:
    return out.with_suffix(".log").read_text()[-2000:]


def process_of(job: Process, rank: int) -> psutil.Process | None:
    """Return a rank's process."""
    for process in descendants(job):
        with suppress(psutil.Error, KeyError):  # it has ended meanwhile, or not quite begun
            words = process.cmdline()
            is_rank = "bench" in words and "torch.distributed.run" not in words
            if is_rank and process.environ()["RANK"] == str(rank):
                return process
    return None


def kill_one(out: Path, draw: random.Random, moment: str, restarts: int, *more: str) -> bool:
    """Kill a rank at a moment; all that ran ends soon, and a job may be started anew.

    Returns whether the job had not ended before.
    """
    job, rank = torchrun(out, restarts, *more), draw.randrange(RANKS)
    begins, lasts = MOMENTS[moment]
    try:
        wait_while_running(job, lambda: begins(job, out))
        time.sleep(draw.uniform(0, lasts))
        target = process_of(job, rank)
        running = descendants(job)
        if moment == "while saving":  # which is over before processes are found
            saved = out / "checkpoints" / UNFINISHED
            wait_while_running(job, saved.exists, poll=POLL_OFTEN)
        assert target is not None, log_of(out)
        target.kill()
        assert have_ended(running, EXIT_SECONDS), "a process stayed"
        code = wait_for_exit(job, GOES_ON_WITHIN if restarts else EXIT_SECONDS)
        assert code is not None, "the job hangs"
        latest_step(out)  # and all checkpoints are whole
        if code == 0 and not restarts:
            return False
        assert (code == 0) == bool(restarts), log_of(out)
        return True
    finally:
        end(job)


def train_without_kill(out: Path, *more: str) -> Path:
    job = torchrun(out, 0, *more)
    try:
        assert wait_for_exit(job, LONGEST) == 0, log_of(out)
    finally:
        end(job)
    return out


@pytest.mark.slow
def test_killing_a_rank_ends_the_other_ranks_and_a_restart_ends_the_same(
    tries: Tries, own_results: Path
) -> None:
    """Each moment in turn, without a restart and with one; the last try is of a model that the processes share."""
    if not tries.share:
        assert kill_one(own_results / "killed", tries.random, "while saving", 0)
        return
    draw, count, moments = tries.random, tries(few=1, full=9), [*MOMENTS]
    whole = training_of(train_without_kill(own_results / "unkilled"))
    for number in range(count):
        moment, restarts = moments[number % len(moments)], (number + number // len(moments)) % 2
        out = own_results / f"killed{number}"
        kill_one(out, draw, moment, restarts)
        assert not restarts or training_of(out) == whole
    sharded = training_of(train_without_kill(own_results / "unkilled-sharded", *SHARDED))
    kill_one(own_results / "killed-sharded", draw, "while steps are taken", 1, *SHARDED)
    assert training_of(own_results / "killed-sharded") == sharded


@pytest.mark.exhaustive
def test_stalled_rank_ends_all(own_results: Path) -> None:
    out = own_results / "held"
    job = torchrun(out, 0, **{WATCHDOG_SECONDS: str(HELD_WATCHDOG_SECONDS)})
    try:
        wait_while_running(job, lambda: bool(list_checkpoints_newest_first(out / "checkpoints")))
        everyone, target = descendants(job), process_of(job, 1)
        assert target is not None, log_of(out)
        os.kill(target.pid, signal.SIGSTOP)
        assert wait_for_exit(job, HELD_WATCHDOG_SECONDS + EXIT_SECONDS) not in (0, None)
        assert have_ended(everyone, 20)
    finally:
        end(job)
