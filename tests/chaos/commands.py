"""Command lines of this project that are started to be killed, and what they leave."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.environment.circumstances import CHECKOUT
from bench.orchestration.worker import PARENT
from bench.record import Failure, Training, read_record
from bench.train.checkpoints import list_checkpoints, read_checkpoint

EXIT_SECONDS = 120.0  # seconds that a process is given to end, on a busy machine
LONGEST = 10 * 60.0  # seconds that what is not killed may take
POLL, POLL_OFTEN = 0.02, 0.001  # seconds from one look to the next; often for what is soon over

Process = subprocess.Popen[str]


@dataclass(slots=True)
class KillLog:
    """What was killed and resumed and again, and what was amiss."""

    kills: int = 0
    within: int = 0  # of them, those that came while a record was written
    finished: list[Path] = field(default_factory=list)  # folders
    unreadable: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)


def stay_on_core(number: int) -> None:
    """Bind this thread, and what it starts, to one of the cores."""
    own = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {own[number % len(own)]})


def start_command(words: Sequence[str], log: Path, settings: Mapping[str, str] | None = None) -> Process:
    """Start `python WORDS` from the checkout; what it says goes to a file."""
    with log.open("w", encoding="utf-8") as text:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=CHECKOUT,
            env=os.environ | {"TQDM_DISABLE": "1"} | dict(settings or {}),
            stdout=text,
            stderr=text,
            text=True,
        )


def wait_for_exit(process: Process, seconds: float = EXIT_SECONDS) -> int | None:
    """Wait for an end; return the exit code, None where it did not come in time."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def descendants(process: Process) -> list[psutil.Process]:
    """Return a process's descendants."""
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


def wait_for_all(processes: Sequence[psutil.Process], seconds: float = EXIT_SECONDS) -> bool:
    """Wait for the end of all; kill those that stay."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return not alive


def wait_until(
    is_there: Callable[[], bool], process: Process, seconds: float = EXIT_SECONDS, poll: float = POLL
) -> None:
    """Wait until something is there, or the process has ended, or too much time has gone."""
    deadline = time.monotonic() + seconds
    while not is_there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(poll)


def latest_step(out: Path) -> int:
    """Return how far the newest checkpoint is; 0 where there is none."""
    found = list_checkpoints(out / "checkpoints")
    return int(found[0].name.removeprefix("step-")) if found else 0


def damaged_checkpoints(out: Path) -> list[str]:
    """Return the checkpoints that are not whole."""
    wrong = []
    for path in list_checkpoints(out / "checkpoints"):
        try:
            read_checkpoint(path)
        except (ValueError, OSError) as error:
            wrong.append(f"{path}: {error}")
    return wrong


def read_record_files(out: Path, wrong: list[str]) -> dict[str, bytes]:
    """Return the records of a folder, those of failures aside, which a new try removes; note those that are torn."""
    found = {}
    for path in out.glob("*-*.*.json"):
        try:
            if not isinstance(read_record(path).measured, Failure):
                found[path.name] = path.read_bytes()
        except ValueError as error:
            wrong.append(f"torn: {error}")
    return found


def read_training(out: Path) -> tuple[Training, bytes] | None:
    """Return what a training left: losses, and its last tower's file."""
    for path in out.glob("*.training.*.json"):
        measured = read_record(path).measured
        if isinstance(measured, Training):
            return measured, (out / measured.branches[-1].tower).read_bytes()
    return None


def describe_training_difference(out: Path, other: Path) -> str:
    """Say in what two trainings are not the same to the last bit; nothing where they are."""
    one, two = read_training(out), read_training(other)
    if one is None or two is None:
        return f"no record in {other if one else out}"
    if (one[0].trunk_losses, one[0].cooldown_losses) != (two[0].trunk_losses, two[0].cooldown_losses):
        return "losses differ"
    return "" if one[1] == two[1] else "towers differ"
