"""Command lines of this project that are started to be killed, and what they leave."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.environment.child_processes import PARENT
from bench.environment.circumstances import CHECKOUT
from bench.records.record import Failure, Training, read_record
from bench.train.checkpoints import list_checkpoints_newest_first, verify_and_read_metadata

EXIT_SECONDS = 120.0  # seconds that a process is given to end, on a busy machine
LONGEST = 10 * 60.0  # seconds that what is not killed may take
POLL, POLL_OFTEN = 0.02, 0.001  # seconds from one look to the next; often for what is soon over

Process = subprocess.Popen[str]


def start_command(
    words: Sequence[str], log: Path, core: int | None = None, **variables: str
) -> Process:
    """Start `python WORDS` from the checkout, on one core or on all; what it says goes to a file."""
    with log.open("w", encoding="utf-8") as text:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=CHECKOUT,
            env=os.environ | {"TQDM_DISABLE": "1"} | variables,
            stdout=text,
            stderr=text,
            text=True,
        )
    if core is not None:  # as many threads as another command on one core
        cores = sorted(os.sched_getaffinity(0))
        psutil.Process(process.pid).cpu_affinity([cores[core % len(cores)]])
    return process


def wait_for_exit(process: Process, seconds: float = EXIT_SECONDS) -> int | None:
    """Wait for an end; return the exit code, None where it did not come in time."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def end(process: Process) -> None:
    """End a process with its descendants; none are looked for if it has ended itself."""
    running = descendants(process)
    process.kill()
    process.wait()
    for one in running:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def descendants(process: Process) -> list[psutil.Process]:
    """Return a process's descendants; none if it has ended, as its number may be another process's by now."""
    if process.poll() is not None:
        return []
    found = list[psutil.Process]()
    with suppress(psutil.NoSuchProcess):
        found += psutil.Process(process.pid).children(recursive=True)
    return found


def child_runs(process: Process) -> list[psutil.Process]:
    """Return the runs that a command line has started, which may have ended itself."""
    found = list[psutil.Process]()
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            found += [one] if one.environ().get(PARENT) == str(process.pid) else []
    return found


def wait_while_running(
    process: Process,
    is_there: Callable[[], bool],
    seconds: float = EXIT_SECONDS,
    poll: float = POLL,
) -> None:
    """Wait until something is there, or the process has ended, or too much time has gone."""
    deadline = time.monotonic() + seconds
    while not is_there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(poll)


def latest_step(out: Path) -> int:
    """Return how far the newest checkpoint is; 0 where there is none. Each has to be whole."""
    found = list_checkpoints_newest_first(out / "checkpoints")
    return max((verify_and_read_metadata(path).steps_taken for path in found), default=0)


def read_record_files(out: Path) -> dict[str, bytes]:
    """Return the records of a folder, those of failures aside, which a new try removes; each has to be whole."""
    paths = [
        path
        for path in out.glob("*-*.*.json")
        if not isinstance(read_record(path).measured, Failure)
    ]
    return {path.name: path.read_bytes() for path in paths}


def training_of(out: Path) -> tuple[tuple[float, ...], tuple[object, ...], bytes]:
    """Return what a training left: losses, and its last tower's file."""
    contents = [read_record(path).measured for path in out.glob("*-*.*.json")]
    (training,) = (content for content in contents if isinstance(content, Training))
    return (
        training.trunk_losses,
        training.cooldown_losses,
        (out / training.branches[-1].tower).read_bytes(),
    )
