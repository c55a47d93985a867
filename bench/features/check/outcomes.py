"""The outcomes of checks, and errors in the code of an extension as one line."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.console.console import format_error_on_one_line


class CheckError(Exception):
    """A method breaks a rule; the message says which, in one line."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a check."""

    name: str
    text: str  # "ok", or what is wrong
    has_failed: bool


def run_check(name: str, check: Callable[[], None]) -> Outcome:
    """Run a check that raises an error if it fails."""
    try:
        check()
    except CheckError as error:
        return Outcome(name, str(error), has_failed=True)
    except Exception as error:  # noqa: BLE001 - it is the code of others
        return Outcome(name, describe_with_line(error), has_failed=True)
    return Outcome(name, "ok", has_failed=False)


def describe_with_line(error: BaseException) -> str:
    """Return the first line of an error, and the last line outside installed packages that led to it."""
    reason = format_error_on_one_line(f"{type(error).__name__}: {error}").splitlines()[0]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
    ]
    if not frames:
        return reason
    return f"{reason} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
