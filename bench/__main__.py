"""The command line of the harness: `python -m bench` compares the methods; `python -m bench VERB` does one thing.

Little is imported here: a signal that comes while the rest is imported, which takes a second, ends it as any other.
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from bench.interruption import INTERRUPTED, TERMINATED, Terminated


def main(arguments: Sequence[str]) -> int:
    """Run a command line; return the exit code: 0, or what `bench.command_line` and `bench.interruption` name."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from bench.dispatch import dispatch

        return dispatch(arguments)
    except KeyboardInterrupt as interrupt:
        return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
