"""Hostile inputs: nothing of them is executed, nothing is written but into the folder for results."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.commit import CHECKOUT
from bench.experiments import EXPERIMENTS
from bench.faults.attacks import EXECUTED, Attack, attacks
from bench.faults.bound import Bound, at_most, none_of
from bench.profilers.memory import status_bytes
from bench.record import Circumstances, Failure, Record, record_path, write_record

STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "socket.connect")
CHANGES = ("os.rename", "os.mkdir", "os.symlink", "os.link", "os.remove", "os.chmod", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MOST_GIB = 1.5  # that the largest bomb may take of memory, beside what the process holds
MARKUP = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "</style><b>x")


def run(share: float, seed: int, folder: Path) -> list[Bound]:  # noqa: ARG001 - a part's arguments
    """Try each attack; all of them always, for they take seconds."""
    kinds, executed, written, obeyed, crashes = attacks(), list[str](), list[str](), list[str](), list[str]()
    before = status_bytes("VmHWM") or 0
    for number, (name, attack) in enumerate(kinds.items()):
        own = folder / str(number)
        own.mkdir()
        with watched(own) as seen, captured() as told:
            crash = crash_of(attack, own)
        executed += [f"{name}: {event}" for event in seen if event.startswith(STARTS)]
        executed += [f"{name}: its payload ran"] if (own / EXECUTED).exists() else []
        written += [f"{name}: {event}" for event in seen if not event.startswith(STARTS)]
        text = "".join(stream.getvalue() for stream in told).replace("\n", "").replace("\r", "")  # a bar returns
        obeyed += [f"{name}: {text[:200]!r}"] if not text.isprintable() else []
        crashes += [f"{name}: {crash}"] if crash else []
    outside = [str(path) for path in folder.parent.glob("outside*")] + [
        str(path) for path in Path("/").glob("outside*")
    ]
    gibibytes = ((status_bytes("VmHWM") or 0) - before) / 2**30
    return [
        none_of("hostile inputs: executed, or another process or address asked for", len(kinds), executed),
        none_of("hostile inputs: files changed outside of their folder", len(kinds), written + outside),
        none_of("hostile inputs: ended otherwise than by a clear error", len(kinds), crashes),
        none_of("hostile inputs: control characters on the terminal", len(kinds), obeyed),
        none_of("hostile names in a report: markup that is not escaped", len(MARKUP), markup_in_report(folder)),
        at_most("the most memory that a hostile input took", MOST_GIB, gibibytes, "GiB"),
    ]


def crash_of(attack: Attack, folder: Path) -> str:
    """Return an error that is no refusal; nothing where it was refused or did what it may."""
    try:
        attack(folder)
    except (ValueError, OSError, SystemExit):
        return ""
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Collect what is printed."""
    streams = io.StringIO(), io.StringIO()
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        yield streams


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Collect what Python is asked to start, to reach, and to write outside of a folder, while the block runs."""
    seen = list[str]()
    _watchers().append((str(folder), seen))
    try:
        yield seen
    finally:
        _watchers().clear()


@cache
def _watchers() -> list[tuple[str, list[str]]]:
    """Return who is to be told; the hook that tells them stays as long as the process."""
    watchers = list[tuple[str, list[str]]]()

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        for folder, seen in watchers:
            changed = _changed(event, arguments)
            if event.startswith(STARTS) or (changed and not changed.startswith(folder)):
                seen.append(f"{event} {arguments!r}"[:200])

    sys.addaudithook(hear)
    return watchers


def _changed(event: str, arguments: tuple[Any, ...]) -> str:
    """Return the path that an event writes to; nothing where it only reads."""
    if event == "open":
        path, mode, flags = arguments
        is_write = any(letter in mode for letter in "wxa+") if isinstance(mode, str) else (flags or 0) & WRITES
        return os.fsdecode(path) if is_write and isinstance(path, str | bytes | os.PathLike) else ""
    if event.startswith(CHANGES) and isinstance(arguments[0], str | bytes | os.PathLike):
        return os.fsdecode(arguments[0])
    return ""


def markup_in_report(folder: Path) -> list[str]:
    """Let names, reasons and commits of records be markup; return what stands in the page as it was."""
    results, page = folder / "records", folder / "index.html"
    results.mkdir()
    circumstances = Circumstances(
        machine=MARKUP[0],
        device="cpu",
        threads=1,
        precision="fp32",
        compiled=False,
        packages={MARKUP[1]: MARKUP[2]},
        commit=MARKUP[3],
        started_at="2026-01-01T00:00:00Z",
    )
    for number, text in enumerate(MARKUP):
        experiment = replace(EXPERIMENTS["clip-tiny"], name=text, data=text)
        failure = Failure(what=text, reason=text)
        record = Record(comparison="hostile", experiment=experiment, circumstances=circumstances, measured=failure)
        write_record(record, record_path(results, "hostile", "failure", number))
    command = [sys.executable, "-m", "reports", "build", str(results), "--out", str(page)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"no page: {done.stderr}"]
    return [text for text in MARKUP if text in page.read_text(encoding="utf-8")]
