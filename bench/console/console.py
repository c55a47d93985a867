"""Terminal output, with control characters of untrusted text escaped."""

import sys
from pathlib import Path

# The program as it was started, for messages that name a command.
PROGRAM = "catlip-bench" if Path(sys.argv[0]).name == "catlip-bench" else "python -m bench"


def printable(text: str) -> str:
    r"""Escape characters that are not printable as Python does (`\x1b`): controls, line breaks, bidi marks."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def printable_lines(text: str) -> str:
    """Escape characters that are not printable, but for line feeds."""
    return "\n".join(map(printable, text.split("\n")))


def log(text: str) -> None:
    """Print a line to standard error, escaped."""
    print(printable(text), file=sys.stderr, flush=True)
