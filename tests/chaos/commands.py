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

from bench.environment.commit import CHECKOUT
from bench.orchestration.worker import PARENT
from bench.record import Failure, Training, read_record
from bench.train.checkpoints import checkpoints, read_checkpoint

ENDS_WITHIN = 120.0  # seconds that a process is given to end, on a busy machine
LONGEST = 10 * 60.0  # seconds that what is not killed may take
POLL, POLL_OFTEN = 0.02, 0.001  # seconds from one look to the next; often for what is soon over

Process = subprocess.Popen[str]


@dataclass(slots=True)
class Chain:
    """What was killed and taken up again and again, and what was amiss."""

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


def begun(words: Sequence[str], log: Path, settings: Mapping[str, str] | None = None) -> Process:
    """Start `python WORDS` from the checkout; what it says goes to a file."""
    with log.open("w", encoding="utf-8") as told:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=CHECKOUT,
            env=os.environ | {"TQDM_DISABLE": "1"} | dict(settings or {}),
            stdout=told,
            stderr=told,
            text=True,
        )


def ended(process: Process, seconds: float = ENDS_WITHIN) -> int | None:
    """Wait for an end; return the exit code, None where it did not come in time."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def family(process: Process) -> list[psutil.Process]:
    """Return a process's descendants."""
    found = list[psutil.Process]()
    with suppress(psutil.NoSuchProcess):
        found += psutil.Process(process.pid).children(recursive=True)
    return found


def runs_of(process: Process) -> list[psutil.Process]:
    """Return the runs that a command line has started, which may have ended itself."""
    found = list[psutil.Process]()
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            found += [one] if one.environ().get(PARENT) == str(process.pid) else []
    return found


def all_ended(processes: Sequence[psutil.Process], seconds: float = ENDS_WITHIN) -> bool:
    """Wait for the end of all; kill those that stay."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return not alive


def waited_for(
    is_there: Callable[[], bool], process: Process, seconds: float = ENDS_WITHIN, poll: float = POLL
) -> None:
    """Wait until something is there, or the process has ended, or too much time has gone."""
    deadline = time.monotonic() + seconds
    while not is_there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(poll)


def newest_step(out: Path) -> int:
    """Return how far the newest checkpoint is; 0 where there is none."""
    found = checkpoints(out / "checkpoints")
    return int(found[0].name.removeprefix("step-")) if found else 0


def unreadable(out: Path) -> list[str]:
    """Return the checkpoints that are not whole."""
    wrong = []
    for path in checkpoints(out / "checkpoints"):
        try:
            read_checkpoint(path)
        except (ValueError, OSError) as error:
            wrong.append(f"{path}: {error}")
    return wrong


def records_of(out: Path, wrong: list[str]) -> dict[str, bytes]:
    """Return the records of a folder, those of failures aside, which a new try removes; note those that are torn."""
    found = {}
    for path in out.glob("*-*.*.json"):
        try:
            if not isinstance(read_record(path).measured, Failure):
                found[path.name] = path.read_bytes()
        except ValueError as error:
            wrong.append(f"torn: {error}")
    return found


def training_of(out: Path) -> tuple[Training, bytes] | None:
    """Return what a training left: losses, and its last tower's file."""
    for path in out.glob("*.training.*.json"):
        measured = read_record(path).measured
        if isinstance(measured, Training):
            return measured, (out / measured.branches[-1].tower).read_bytes()
    return None


def difference(out: Path, other: Path) -> str:
    """Say in what two trainings are not the same to the last bit; nothing where they are."""
    one, two = training_of(out), training_of(other)
    if one is None or two is None:
        return f"no record in {other if one else out}"
    if (one[0].trunk_losses, one[0].cooldown_losses) != (two[0].trunk_losses, two[0].cooldown_losses):
        return "losses differ"
    return "" if one[1] == two[1] else "towers differ"
