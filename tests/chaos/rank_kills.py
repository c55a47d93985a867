"""Processes of a joint training killed, or held: the others do not wait for ever."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.environment.circumstances import CHECKOUT
from bench.environment.variables import WATCHDOG_SECONDS
from bench.train.checkpoints import list_checkpoints, read_metadata
from tests.chaos.bound import Check, check_at_most, check_none, num_tries
from tests.chaos.commands import (
    POLL_OFTEN,
    Process,
    damaged_checkpoints,
    descendants,
    describe_training_difference,
    start_command,
    wait_for_all,
    wait_for_exit,
    wait_until,
)

FULL, STEPS, BATCH, RANKS = 10, 200, 8, 2
EXIT_SECONDS, GOES_ON_WITHIN = 60.0, 300.0  # seconds from a kill: until all have ended; until a restarted job is done
LONGEST = 10 * 60.0  # seconds that the training may take that is not killed
HELD_WATCHDOG_SECONDS = 20.0  # seconds of the longest wait, in the run of which a process is held
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
class KillResults:
    """What came of the kills."""

    seconds: list[float] = field(default_factory=list)  # from each to the end of all that ran then
    hung: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    restarted: int = 0


def run(fraction: float, seed: int, folder: Path) -> list[Check]:
    """Kill a process of a joint training in each try, every other one to be started anew; then hold one.

    Each moment comes in turn, with a restart and without; the last try is of a model that the processes share.
    """
    subprocess.run([sys.executable, "-m", "bench.data.pack"], cwd=CHECKOUT, check=True)
    count, draw, kills = num_tries(FULL, fraction), random.Random(seed), KillResults()
    whole = _train_without_kill(folder / "unkilled")
    for number in range(count - 1):
        moment, restarts = MOMENTS[number % len(MOMENTS)], (number + number // len(MOMENTS)) % 2
        _kill_one(folder / f"killed{number}", whole, draw, kills, moment=moment, restarts=restarts)
    sharded = _train_without_kill(folder / "unkilled-sharded", *SHARDED)
    _kill_one(folder / "killed-sharded", sharded, draw, kills, *SHARDED, moment=STEPPING, restarts=1)
    return [
        check_none("ranks killed: jobs that hung, or ended wrongly", count, kills.hung),
        check_at_most(
            "the longest from a kill to the end of all that ran", EXIT_SECONDS, max(kills.seconds, default=0.0), "s"
        ),
        check_none("ranks killed: checkpoints that cannot be read", count, kills.unreadable),
        check_none("jobs started anew: not equal to the unkilled to the last bit", kills.restarted, kills.unequal),
        hold_rank(folder / "held"),
        restart_node(folder / "node", whole),
    ]


def _train_without_kill(out: Path, *more: str) -> Path:
    """Train without a kill; return the folder to compare with."""
    job = _torchrun(out, 0, *more)
    if wait_for_exit(job, LONGEST) != 0:
        _end(job)
        raise ChildProcessError(f"the training that was not killed failed: {_log(out).read_text()[-2000:]}")
    return out


def _log(out: Path) -> Path:
    return out.with_suffix(".log")


def _torchrun(out: Path, restarts: int, *more: str, **settings: str) -> Process:
    return _train_under(["--standalone", "--nproc-per-node", str(RANKS)], out, restarts, _log(out), *more, **settings)


def _train_under(launcher: list[str], out: Path, restarts: int, log: Path, *more: str, **settings: str) -> Process:
    words = ["-m", "torch.distributed.run", *launcher, "--max-restarts", str(restarts)]
    words += ["-m", "bench", "train", "catlip-tiny", "--out", str(out)]
    words += ["--images", str(STEPS * BATCH * RANKS), "--task", "rooms", "--checkpoint-minutes", "0.0001"]
    words += ["--set", f"batch_size={BATCH}", "--set", "subset=random:500", *more]
    return start_command(words, log, APART | settings)


def _kill_one(
    out: Path, whole: Path, draw: random.Random, kills: KillResults, *more: str, moment: str, restarts: int
) -> None:
    """Kill a rank's command line or its run at a moment; all that ran ends soon, and a job may be started anew."""
    job, rank, is_run = _torchrun(out, restarts, *more), draw.randrange(RANKS), draw.random() < 0.5
    target, running = _target(job, out, rank, draw, moment, is_run=is_run)
    text = f"{out}: {moment}, rank {rank}'s {'run or ' if is_run else ''}command line killed, {restarts} restarts"
    if target is None:
        kills.hung.append(f"{text}: it had ended: {_log(out).read_text()[-2000:]}")
        _end(job)
        return
    start = time.monotonic()
    target.kill()
    if not wait_for_all(running, EXIT_SECONDS):
        kills.hung.append(f"{text}: still there after {EXIT_SECONDS:g} s")
    kills.seconds.append(time.monotonic() - start)
    code = wait_for_exit(job, GOES_ON_WITHIN if restarts else EXIT_SECONDS)
    # all was done when the kill came: another is tried
    if code == 0 and not restarts and not describe_training_difference(out, whole):
        kills.seconds.pop()
        _kill_one(out.with_name(f"{out.name}-again"), whole, draw, kills, *more, moment=moment, restarts=restarts)
    elif code is None:
        kills.hung.append(f"{text}: the job has not ended after {time.monotonic() - start:.0f} s")
        _end(job)
    elif (code == 0) != bool(restarts):
        kills.hung.append(f"{text}: ended with exit code {code}: {_log(out).read_text()[-2000:]}")
    elif restarts:
        kills.restarted += 1
        if unequal := describe_training_difference(out, whole):
            kills.unequal.append(f"{text}: {unequal}")
    kills.unreadable += damaged_checkpoints(out)


def _target(
    job: Process, out: Path, rank: int, draw: random.Random, moment: str, *, is_run: bool
) -> tuple[psutil.Process | None, list[psutil.Process]]:
    """Wait for a moment; return the rank's run where it is asked for and has one, or its command line, and all others.

    None where the job has ended before.
    """
    saved = out / "checkpoints"
    begins, lasts = {  # and for how many seconds
        AT_START: (lambda: _process_of(job, rank, is_run=False) is not None, 4.0),
        STEPPING: (lambda: bool(list_checkpoints(saved)), 1.0),
        SAVING: (lambda: bool(list_checkpoints(saved)), 0.0),
        SCORING: (lambda: any(out.glob("*.training.*.json")), 1.0),
    }[moment]
    wait_until(begins, job)
    time.sleep(draw.uniform(0, lasts))
    target = (_process_of(job, rank, is_run=True) if is_run else None) or _process_of(job, rank, is_run=False)
    running = descendants(job)
    if moment == SAVING:  # which is over before processes are found
        wait_until(lambda: any(saved.glob(".step-*.part")), job, poll=POLL_OFTEN)
    return (target if job.poll() is None else None), running


def _end(job: Process) -> None:
    """End a job with all that it has started."""
    running = descendants(job)
    job.kill()
    job.wait()
    wait_for_all(running, 0)


def _process_of(job: Process, rank: int, *, is_run: bool) -> psutil.Process | None:
    """Return a rank's command line, or what it runs."""
    for process in descendants(job):
        with suppress(psutil.Error, KeyError):  # it has ended meanwhile, or not quite begun
            wanted = "bench.orchestration.worker" if is_run else "bench"
            words = process.cmdline()
            is_it = wanted in words and "torch.distributed.run" not in words
            if is_it and process.environ()["RANK"] == str(rank):
                return process
    return None


def hold_rank(out: Path) -> Check:
    """Stop a rank's run without ending it: within the watchdog's time the other prints its stacks, and all end."""
    job = _torchrun(out, 0, **{WATCHDOG_SECONDS: str(HELD_WATCHDOG_SECONDS)})
    wait_until(lambda: bool(list_checkpoints(out / "checkpoints")), job)
    everyone, target = descendants(job), _process_of(job, 1, is_run=True)
    what, most = "a stalled rank: all end, and say where they stood", HELD_WATCHDOG_SECONDS + EXIT_SECONDS
    if target is None:
        _end(job)
        return Check(what, f"within {most:g} s", f"it had ended: {_log(out).read_text()[-2000:]}", is_met=False)
    os.kill(target.pid, signal.SIGSTOP)
    start = time.monotonic()
    code = wait_for_exit(job, most)
    seconds, stayed = time.monotonic() - start, not wait_for_all(everyone, 20)
    if code is None:
        _end(job)
    has_stacks = "most recent call first" in _log(out).read_text()
    found = f"{seconds:.0f} s, {'with' if has_stacks else 'without'} stacks"
    return Check(what, f"within {most:g} s", found, is_met=code not in (0, None) and has_stacks and not stayed)


def restart_node(out: Path, whole: Path) -> Check:
    """Kill a node, torchrun with all that it started, and start it again by the same command: the job ends equal."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"
    launcher = ["--nnodes", str(RANKS), "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]

    def start_node(number: int, log: str) -> Process:
        options = [*launcher, "--rdzv-conf", f"is_host={int(number == 0)}"]
        more, log_file = ("--resume", "auto"), out.with_suffix(f".{log}.log")
        node = _train_under(options, out, 3, log_file, *more, GLOO_SOCKET_IFNAME="lo")
        cores = psutil.Process().cpu_affinity()
        psutil.Process(node.pid).cpu_affinity([cores[number % len(cores)]])  # as many threads as without a kill
        return node

    first, second = start_node(0, "first"), start_node(1, "second")
    wait_until(lambda: bool(list_checkpoints(out / "checkpoints")), first)
    started, saved = descendants(second), list_checkpoints(out / "checkpoints")
    what, expected = "a node killed and started again", "resumed, and equal to the last bit"
    if not saved:
        _end(first)
        _end(second)
        return Check(
            what, expected, f"no checkpoint: {out.with_suffix('.first.log').read_text()[-2000:]}", is_met=False
        )
    comparison = read_metadata(saved[0]).comparison
    for process in (second, *started):
        with suppress(psutil.Error):
            process.kill()
    second.wait()
    nodes = [first, start_node(1, "again")]
    codes = [wait_for_exit(node, GOES_ON_WITHIN) for node in nodes]
    for node in nodes:
        _end(node)
    difference, is_resumed = describe_training_difference(out, whole), any(out.glob(f"{comparison}.training.*.json"))
    found = f"killed at {saved[0].name}, exit codes {codes}, {'resumed' if is_resumed else 'started anew'}"
    found += f", {difference or 'equal to the last bit'}"
    return Check(what, expected, found, is_met=codes == [0, 0] and is_resumed and not difference)
