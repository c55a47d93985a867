"""Options of a command line, with one line for those that are not accepted."""

import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import TypeVar

import tyro

from bench.console.console import USAGE

# Least and most that an option accepts.
MINUTES_RANGE = (1e-3, 1e6)
ROUNDS_RANGE = (1, 10_000)
MAX_ECHOED_CHARACTERS = 30  # of a number that is refused
MAX_MESSAGE_CHARACTERS = 300
FRAME = re.compile(r"\x1b\[[\d;]*m|[│╭╮╰╯|]|[─-]{9,}")  # of tyro's messages
T = TypeVar("T")


def parse_options(
    kind: type[T], program: str, arguments: Sequence[str], description: str | None = None
) -> T:
    """Parse the options of a command; ValueError of one line, in place of tyro's frame, for those not accepted."""
    message = StringIO()
    try:
        with redirect_stderr(message):
            return tyro.cli(kind, prog=program, args=arguments, description=description)
    except SystemExit as ended:
        if ended.code != USAGE:  # of --help
            raise
    _, _, text = message.getvalue().partition("\n")  # below the title
    text, *_ = re.split("Argument helptext|For full helptext", text)
    line = " ".join(FRAME.sub(" ", text).split())
    raise ValueError(f"{line[:MAX_MESSAGE_CHARACTERS]} (see {program} --help)")


def require_option_in_range(
    option: str, value: float | None, minimum: float, maximum: float
) -> None:
    """Raise ValueError for an option's value outside of a range; None is an option that is not given."""
    if value is not None and not minimum <= value <= maximum:
        text = str(value)[:MAX_ECHOED_CHARACTERS]
        raise ValueError(f"--{option} must be from {minimum:g} to {maximum:g}, got {text}")
