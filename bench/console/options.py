"""Options of a command line, with one line for those that are not accepted."""

import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from itertools import takewhile
from typing import TypeVar

import tyro

from bench.console.console import USAGE

T = TypeVar("T")


def parse_options(kind: type[T], program: str, arguments: Sequence[str], description: str | None = None) -> T:
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
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip("│| ") for line in framed.getvalue().splitlines()]
    said = takewhile(lambda line: not line.startswith(("Argument helptext", "For full helptext")), lines[1:])
    message = re.sub(r"(^| )[─-]{9,} ?", "; ", " ".join(said)).strip("; ")
    raise ValueError(f"{message} (see {program} --help)")
