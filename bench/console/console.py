"""What is told on a terminal: text that came with data or files cannot act on it."""

import sys
from pathlib import Path

# How a person started the command line: messages that name a command use it.
PROGRAM = "catlip-bench" if Path(sys.argv[0]).name == "catlip-bench" else "python -m bench"


def printable(text: str) -> str:
    r"""Spell out what a terminal would obey or could not show, as Python does: `\x1b` for an escape.

    Controls, line breaks, marks that turn the direction of writing, half surrogate pairs.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def printable_lines(text: str) -> str:
    """Spell out what a terminal would obey in each line of a text of several."""
    return "\n".join(map(printable, text.split("\n")))


def say(text: str) -> None:
    """Print a line on standard error."""
    print(printable(text), file=sys.stderr, flush=True)
