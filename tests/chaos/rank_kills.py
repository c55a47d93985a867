"""Processes of a joint training killed, or held: the others do not wait for ever."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.environment.commit import CHECKOUT
from bench.train.checkpoints import checkpoints
from bench.train.distributed import PATIENCE
from tests.chaos.bound import Bound, at_most, none_of, tries
from tests.chaos.commands import (
    POLL_OFTEN,
    Process,
    all_ended,
    begun,
    difference,
    ended,
    family,
    unreadable,
    waited_for,
)

FULL, STEPS, BATCH, RANKS = 10, 200, 8, 2
ENDS_WITHIN, GOES_ON_WITHIN = 60.0, 300.0  # seconds from a kill: until all have ended; until a restarted job is done
LONGEST = 10 * 60.0  # seconds that the training may take that is not killed
HELD_PATIENCE = 20.0  # seconds of the longest wait, in the run of which a process is held
AT_START, STEPPING, SAVING, SCORING = MOMENTS = (
    "at the start",
    "while steps are taken",
    "while saving",
    "while scoring",
)
SHARDED = ("--set", "sharding=fsdp2")
# torchrun's agents and ranks share a store by default, which may hang a restart (torch 2.13, ECOSYSTEM.md, finding 2).
APART = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@dataclass(slots=True)
class Kills:
    """What came of the kills."""

    seconds: list[float] = field(default_factory=list)  # from each to the end of all that ran then
    hung: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    restarted: int = 0


def run(share: float, seed: int, folder: Path) -> list[Bound]:
    """Kill a process of a joint training in each try, every other one to be started anew; then hold one.

    Each moment comes in turn, with a restart and without; the last try is of a model that the processes share.
    """
    subprocess.run([sys.executable, "-m", "bench.data.pack", str(folder / "cache")], cwd=CHECKOUT, check=True)
    count, draw, kills = tries(FULL, share), random.Random(seed), Kills()
    whole = _unkilled(folder / "unkilled")
    for number in range(count - 1):
        moment, restarts = MOMENTS[number % len(MOMENTS)], (number + number // len(MOMENTS)) % 2
        _kill_one(folder / f"killed{number}", whole, draw, kills, moment=moment, restarts=restarts)
    sharded = _unkilled(folder / "unkilled-sharded", *SHARDED)
    _kill_one(folder / "killed-sharded", sharded, draw, kills, *SHARDED, moment=STEPPING, restarts=1)
    return [
        none_of("ranks killed: jobs that hung, or ended wrongly", count, kills.hung),
        at_most(
            "the longest from a kill to the end of all that ran", ENDS_WITHIN, max(kills.seconds, default=0.0), "s"
        ),
        none_of("ranks killed: checkpoints that cannot be read", count, kills.unreadable),
        none_of("jobs started anew: not equal to the unkilled to the last bit", kills.restarted, kills.unequal),
        held(folder / "held"),
    ]


def _unkilled(out: Path, *more: str) -> Path:
    """Train without a kill; return the folder to compare with."""
    job = _torchrun(out, 0, *more)
    if ended(job, LONGEST) != 0:
        _end(job)
        raise ChildProcessError(f"the training that was not killed failed: {_log(out).read_text()[-2000:]}")
    return out


def _log(out: Path) -> Path:
    return out.with_suffix(".log")


def _torchrun(out: Path, restarts: int, *more: str, **settings: str) -> Process:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    words += ["--max-restarts", str(restarts), "-m", "bench", "train", "catlip-tiny", "--out", str(out)]
    words += ["--images", str(STEPS * BATCH * RANKS), "--task", "rooms", "--checkpoint-minutes", "0.0001"]
    words += ["--set", f"batch_size={BATCH}", "--set", "subset=random:500", *more]
    return begun(words, _log(out), APART | settings)


def _kill_one(
    out: Path, whole: Path, draw: random.Random, kills: Kills, *more: str, moment: str, restarts: int
) -> None:
    """Kill a rank's command line or its run at a moment; all that ran ends soon, and a job may be started anew."""
    job, rank, is_run = _torchrun(out, restarts, *more), draw.randrange(RANKS), draw.random() < 0.5
    target, running = _target(job, out, rank, draw, moment, is_run=is_run)
    told = f"{out}: {moment}, rank {rank}'s {'run or ' if is_run else ''}command line killed, {restarts} restarts"
    if target is None:
        kills.hung.append(f"{told}: it had ended: {_log(out).read_text()[-2000:]}")
        _end(job)
        return
    start = time.monotonic()
    target.kill()
    if not all_ended(running, ENDS_WITHIN):
        kills.hung.append(f"{told}: still there after {ENDS_WITHIN:g} s")
    kills.seconds.append(time.monotonic() - start)
    code = ended(job, GOES_ON_WITHIN if restarts else ENDS_WITHIN)
    if code == 0 and not restarts and not difference(out, whole):  # all was done when the kill came: another is tried
        kills.seconds.pop()
        _kill_one(out.with_name(f"{out.name}-again"), whole, draw, kills, *more, moment=moment, restarts=restarts)
    elif code is None:
        kills.hung.append(f"{told}: the job has not ended after {time.monotonic() - start:.0f} s")
        _end(job)
    elif (code == 0) != bool(restarts):
        kills.hung.append(f"{told}: ended with exit code {code}: {_log(out).read_text()[-2000:]}")
    elif restarts:
        kills.restarted += 1
        if unequal := difference(out, whole):
            kills.unequal.append(f"{told}: {unequal}")
    kills.unreadable += unreadable(out)


def _target(
    job: Process, out: Path, rank: int, draw: random.Random, moment: str, *, is_run: bool
) -> tuple[psutil.Process | None, list[psutil.Process]]:
    """Wait for a moment; return the rank's run where it is asked for and has one, or its command line, and all others.

    None where the job has ended before.
    """
    saved = out / "checkpoints"
    begins, lasts = {  # and for how many seconds
        AT_START: (lambda: _process_of(job, rank, is_run=False) is not None, 4.0),
        STEPPING: (lambda: bool(checkpoints(saved)), 1.0),
        SAVING: (lambda: bool(checkpoints(saved)), 0.0),
        SCORING: (lambda: any(out.glob("*.training.*.json")), 1.0),
    }[moment]
    waited_for(begins, job)
    time.sleep(draw.uniform(0, lasts))
    target = (_process_of(job, rank, is_run=True) if is_run else None) or _process_of(job, rank, is_run=False)
    running = family(job)
    if moment == SAVING:  # which is over before processes are found
        waited_for(lambda: any(saved.glob(".step-*.part")), job, poll=POLL_OFTEN)
    return (target if job.poll() is None else None), running


def _end(job: Process) -> None:
    """End a job with all that it has started."""
    running = family(job)
    job.kill()
    job.wait()
    all_ended(running, 0)


def _process_of(job: Process, rank: int, *, is_run: bool) -> psutil.Process | None:
    """Return a rank's command line, or what it runs."""
    for process in family(job):
        with suppress(psutil.Error, KeyError):  # it has ended meanwhile, or not quite begun
            wanted = "bench.orchestration.worker" if is_run else "bench"
            words = process.cmdline()
            is_it = wanted in words and "torch.distributed.run" not in words
            if is_it and process.environ()["RANK"] == str(rank):
                return process
    return None


def held(out: Path) -> Bound:
    """Stop a rank's run without ending it: within its patience the other tells where it stands, and all end."""
    job = _torchrun(out, 0, **{PATIENCE: str(HELD_PATIENCE)})
    waited_for(lambda: bool(checkpoints(out / "checkpoints")), job)
    everyone, target = family(job), _process_of(job, 1, is_run=True)
    what, most = "a rank that stands still: all end, and say where they stood", HELD_PATIENCE + ENDS_WITHIN
    if target is None:
        _end(job)
        return Bound(what, f"within {most:g} s", f"it had ended: {_log(out).read_text()[-2000:]}", holds=False)
    os.kill(target.pid, signal.SIGSTOP)
    start = time.monotonic()
    code = ended(job, most)
    seconds, stayed = time.monotonic() - start, not all_ended(everyone, 20)
    if code is None:
        _end(job)
    has_stacks = "most recent call first" in _log(out).read_text()
    found = f"{seconds:.0f} s, {'with' if has_stacks else 'without'} stacks"
    return Bound(what, f"within {most:g} s", found, holds=code not in (0, None) and has_stacks and not stayed)
