"""Options of a command line, with one line for those that are not accepted."""

import os
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from itertools import takewhile
from typing import TypeVar

import tyro

from bench.console.console import USAGE

MINUTES_RANGE, ROUNDS_RANGE = (1e-3, 1e6), (1, 10_000)  # least and most that an option accepts
UNRECOGNIZED = "Unrecognized options:"  # of tyro, before the words that it does not take
MAX_ECHOED_CHARACTERS = 30  # of a number that is refused
T = TypeVar("T")


def parse_options(
    kind: type[T], program: str, arguments: Sequence[str], description: str | None = None
) -> T:
    """Parse the options of a command; ValueError, in place of tyro's frame, for those that it does not accept.

    tyro draws its frame of box characters, or of hyphens where they cannot be written.
    """
    framed = StringIO()
    try:
        with redirect_stderr(framed):
            return tyro.cli(kind, prog=program, args=arguments, description=description)
    except SystemExit as ended:
        if ended.code != USAGE:  # of --help
            raise
    lines = [
        re.sub(r"\x1b\[[\d;]*m", "", line).strip("│| ") for line in framed.getvalue().splitlines()
    ]
    said = takewhile(
        lambda line: not line.startswith(("Argument helptext", "For full helptext")), lines[1:]
    )
    message = re.sub(r"(^| )[─-]{9,} ?", "; ", " ".join(said)).strip("; ")
    if message.startswith(UNRECOGNIZED):
        unrecognized = "".join(message.removeprefix(UNRECOGNIZED).split())  # tyro breaks long words
        paths = [
            word
            for word in filter(os.path.lexists, arguments)
            if unrecognized.startswith("".join(word.split()))
        ]
        if paths:  # as where a shell expands a glob
            message = f"several paths where one is accepted, such as {paths[0]}: quote the glob, or name the folder"
    raise ValueError(f"{message} (see {program} --help)")


def require_range(option: str, value: float | None, minimum: float, maximum: float) -> None:
    """Raise ValueError for a number outside of a range, as NaN is of all; None is an option that is not given."""
    if value is not None and not minimum <= value <= maximum:
        raise ValueError(
            f"--{option} must be from {minimum:g} to {maximum:g}, got {str(value)[:MAX_ECHOED_CHARACTERS]}"
        )
