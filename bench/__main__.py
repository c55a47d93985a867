"""The command line of the harness: `python -m bench` compares the methods; `python -m bench VERB` does one thing.

Little is imported here: a signal that comes while the rest is imported, which takes a second, ends it as any other.
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from bench.console.signals import INTERRUPTED, TERMINATED, Terminated


def main(arguments: Sequence[str]) -> int:
    """Run a command line; return the exit code: 0, or what `bench.console` names in `exit_codes` and `signals`."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        from bench.cli.main import dispatch

        return dispatch(arguments)
    except KeyboardInterrupt as interrupt:
        return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Raise what ends a command that SIGTERM reaches."""
    raise Terminated


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
