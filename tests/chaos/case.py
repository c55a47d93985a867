"""What is done with a faulty, endless or hostile input, how it has to end, and what it must never do."""

import io
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

import torch

from bench.console.console import DISAGREEMENT, OK, USAGE, format_error_on_one_line
from bench.data.decoding import UnusableImageError
from bench.profilers.memory import PeakMemory
from tests.chaos.watching import STARTS, watch_audit_events

MADE = "made"  # the folder of what a case makes itself, which is no user's
EXECUTED = "executed"  # the file that a payload makes in the folder of its case
HANGING_SECONDS = 60.0  # on the clock
LONGEST_LINE = 5000  # characters of an error
REFUSALS = (ValueError, OSError, UnusableImageError)
Write = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a case may take."""

    seconds: float  # of the processors, so that other processes make no case slower
    mebibytes: float  # above the imports
    is_watched: (
        bool  # it starts no process, asks for no address, and changes nothing outside of its folder
    )


def nothing(_: Path) -> None:
    """Write nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a user has in a folder, what is done there, the exit code, and a pattern of what is then said."""

    write: Write
    act: Callable[[Path], object]
    code: int | None  # of an error that refuses, `USAGE`; none: as it likes
    text: str = ""


def attack(act: Callable[[Path], object]) -> Case:
    """Return what a stranger does: it may be refused, or do what it may."""
    return Case(nothing, act, None)


def reading(
    write: Callable[[Path], Path],
    read: Callable[[Path], object],
    expected: Literal["refused", "read right"] = "refused",
) -> Case:
    """Return a file that its reader refuses, or reads right: then what `read` returns is true."""
    paths = list[Path]()

    def act(_: Path) -> int:
        try:
            is_right = read(paths.pop())
        except REFUSALS as refusal:
            if not (text := str(refusal)).isprintable() or not 0 < len(text) <= LONGEST_LINE:
                raise RuntimeError(f"refused without a clear line: {text[:200]!r}") from refusal
            raise
        return OK if is_right or expected == "refused" else DISAGREEMENT

    return Case(
        lambda folder: paths.append(write(folder)), act, USAGE if expected == "refused" else OK
    )


def violations(case: Case, folder: Path, limits: Limits) -> list[str]:
    """Carry out a case; return what it violates."""
    folder.mkdir()
    with capture_output():
        case.write(folder)
    before, peak, error, began = (
        _entries(folder),
        PeakMemory(torch.device("cpu")),
        "",
        time.process_time(),
    )
    with watch_audit_events(folder) as seen, capture_output() as output, stop_hanging():
        try:
            code = case.act(folder)
        except REFUSALS as refusal:
            code, error = USAGE, format_error_on_one_line(refusal)
        except SystemExit as end:
            code = end.code
    seconds, mebibytes = (
        time.process_time() - began,
        peak.read_peak_bytes_by_field()["peak_rss_bytes"] / 2**20,
    )
    text, after = output.getvalue() + error, _entries(folder)
    found = [
        f"lost or changed: {path.name!r}"
        for path, content in before.items()
        if after.get(path) != content
    ]
    found += [f"exit code {code}: {text[-1000:]}"] if case.code not in (None, code) else []
    found += ["a traceback"] if "Traceback" in text else []
    found += [f"says: {text[-1000:]}"] if not re.search(case.text, text) else []
    found += ["control characters"] if not re.sub(r"[\r\n]", "", text).isprintable() else []
    found += [f"{seconds:.1f} s"] if seconds > limits.seconds else []
    found += [f"{mebibytes:.0f} MiB"] if mebibytes > limits.mebibytes else []
    if limits.is_watched:
        beside = [path for path in folder.parent.iterdir() if path != folder]
        above = [
            path for place in (Path.cwd(), *Path.cwd().parents) for path in place.glob("outside*")
        ]
        found += [
            f"{'starts' if event.startswith(STARTS) else 'changes'}: {event}" for event in seen
        ]
        found += [f"changed: {path}" for path in beside + above]
        found += ["its payload ran"] if (folder / EXECUTED).exists() else []
    return found


def _entries(folder: Path) -> dict[Path, object]:
    """Return what a user has in a folder: files by their content, links by their target, others by their kind."""
    found = dict[Path, object]()
    for path in folder.rglob("*"):
        if MADE not in path.relative_to(folder).parts:
            is_file = path.is_file() and not path.is_symlink()
            is_small = is_file and path.stat().st_size <= 2**28
            found[path] = (
                path.read_bytes()
                if is_small
                else path.readlink()
                if path.is_symlink()
                else path.is_dir()
            )
    return found


@contextmanager
def capture_output() -> Iterator[io.StringIO]:
    """Collect what is printed."""
    stream = io.StringIO()
    with redirect_stdout(stream), redirect_stderr(stream):
        yield stream


@contextmanager
def stop_hanging() -> Iterator[None]:
    """Raise HangError where the block does not end."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise HangError(f"not done after {HANGING_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HANGING_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class HangError(Exception):
    """An input whose reader does not end."""
