"""Hostile inputs: nothing of them is executed, nothing is written but into the folder for results."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from bench.profilers.memory import read_status_bytes
from tests.chaos.attacks import attacks
from tests.chaos.bound import Check, check_at_most, check_none
from tests.chaos.markup import MARKUP, markup_in_pages
from tests.chaos.payloads import EXECUTED, Attack
from tests.chaos.watching import STARTS, watch_audit_events

MOST_GIB = 1.5  # that the largest bomb may take of memory, beside what the process holds


def run(fraction: float, seed: int, folder: Path) -> list[Check]:  # noqa: ARG001 - a part's arguments
    """Try each attack; all of them always, for they take seconds."""
    kinds, executed, written, obeyed, crashes = attacks(), list[str](), list[str](), list[str](), list[str]()
    before, there = read_status_bytes("VmHWM") or 0, {path.name for path in folder.iterdir()}
    for number, (name, attack) in enumerate(kinds.items()):
        own = folder / str(number)
        own.mkdir()
        with watch_audit_events(own) as seen, capture_output() as output:
            crash = find_crash(attack, own)
        executed += [f"{name}: {event}" for event in seen if event.startswith(STARTS)]
        executed += [f"{name}: its payload ran"] if (own / EXECUTED).exists() else []
        written += [f"{name}: {event}" for event in seen if not event.startswith(STARTS)]
        text = "".join(stream.getvalue() for stream in output).replace("\n", "").replace("\r", "")  # a bar returns
        obeyed += [f"{name}: {text[:200]!r}"] if not text.isprintable() else []
        crashes += [f"{name}: {crash}"] if crash else []
    own_folders = {str(number) for number in range(len(kinds))}
    beside = [path for path in folder.iterdir() if path.name not in own_folders | there]
    above = [path for place in (folder.parent, Path.cwd(), *Path.cwd().parents) for path in place.glob("outside*")]
    gibibytes = ((read_status_bytes("VmHWM") or 0) - before) / 2**30
    return [
        check_none("hostile inputs: executed, or another process or address asked for", len(kinds), executed),
        check_none(
            "hostile inputs: files changed outside of their folder", len(kinds), [*written, *map(str, beside + above)]
        ),
        check_none("hostile inputs: ended otherwise than by a clear error", len(kinds), crashes),
        check_none("hostile inputs: control characters on the terminal", len(kinds), obeyed),
        check_none("hostile names in three pages: markup that is not escaped", len(MARKUP), markup_in_pages(folder)),
        check_at_most("the most memory that a hostile input took", MOST_GIB, gibibytes, "GiB"),
    ]


def find_crash(attack: Attack, folder: Path) -> str:
    """Return an error that is no refusal; nothing where it was refused or did what it may."""
    try:
        attack(folder)
    except (ValueError, OSError, SystemExit):
        return ""
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def capture_output() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Collect what is printed."""
    streams = io.StringIO(), io.StringIO()
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        yield streams
