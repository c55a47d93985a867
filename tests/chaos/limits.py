"""Inputs that would block, or take time or memory without end: each is refused by its reader, or read right."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch

from bench.data.decoding import UnusableImageError
from bench.profilers.memory import PeakMemory
from tests.chaos.bound import Check, check_at_most, check_none
from tests.chaos.hostile import capture_output
from tests.chaos.limit_cases import Case, cases
from tests.chaos.markup import MARKUP, markup_in_every_field
from tests.chaos.payloads import EXECUTED
from tests.chaos.watching import watch_audit_events

MOST_SECONDS, MOST_MIB = 5.0, 600.0  # of one input: of the processors, so that other processes make none slower
HANGING_SECONDS = 60.0  # on the clock
LONGEST_MESSAGE = 5000  # characters


class HangError(Exception):
    """An input whose reader does not end."""


def run(fraction: float, seed: int, folder: Path) -> list[Check]:  # noqa: ARG001 - a part's arguments
    """Read each input; all of them always, for they take seconds."""
    kinds, wrong, events = cases(), list[str](), list[str]()
    seconds, mebibytes = dict[str, float](), dict[str, float]()
    for number, (name, case) in enumerate(kinds.items()):
        own = folder / str(number)
        own.mkdir()
        path, peak, began = case.write(own), PeakMemory(torch.device("cpu")), time.process_time()
        with watch_audit_events(own) as seen, capture_output(), stop_hanging():
            outcome = outcome_of(case, path)
        seconds[name] = time.process_time() - began
        mebibytes[name] = (peak.read().rss or 0) / 2**20
        wrong += [f"{name}: expected {case.expected}, {outcome}"] if outcome != case.expected else []
        events += [f"{name}: {event}" for event in seen]
        events += [f"{name}: its payload ran"] if (own / EXECUTED).exists() else []
    slowest, largest = max(seconds, key=seconds.__getitem__), max(mebibytes, key=mebibytes.__getitem__)
    return [
        check_none("inputs without end: neither refused nor read right, as expected", len(kinds), wrong),
        check_none(
            "inputs without end: executed, asked for an address, or written outside of their folder",
            len(kinds),
            events,
        ),
        check_at_most("the longest that an input without end took", MOST_SECONDS, seconds[slowest], "s", slowest),
        check_at_most("the most memory that an input without end took", MOST_MIB, mebibytes[largest], "MiB", largest),
        check_none("markup in every field of a page's records", len(MARKUP), markup_in_every_field(folder)),
    ]


def outcome_of(case: Case, path: Path) -> str:
    """Return "refused" or "read right", or what happened instead."""
    try:
        is_right = case.read(path)
    except (ValueError, OSError, UnusableImageError) as error:
        text = str(error)
        is_clear = text.isprintable() and 0 < len(text) <= LONGEST_MESSAGE
        return "refused" if is_clear else f"refused without a clear line: {text[:200]!r}"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {error}"[:200]
    return "read right" if is_right else "read wrong"


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
