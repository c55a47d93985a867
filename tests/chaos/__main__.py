"""The command line of the harness: `python -m tests.chaos`."""

import signal
import sys
from collections.abc import Sequence

import tyro

from bench.__main__ import StopHandler
from bench.console.console import INTERRUPTED, USAGE, Stopped, log
from tests.chaos.harness import Chaos


def main(arguments: Sequence[str]) -> int:
    """Break what the command line names; return the exit code."""
    signal.signal(signal.SIGTERM, StopHandler())
    try:
        return tyro.cli(Chaos, prog="python -m tests.chaos", args=arguments).run()
    except (ValueError, OSError) as error:
        log(f"error: {error}")
        return USAGE
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted: {Chaos.resume_hint}", file=sys.stderr)
        return interrupt.code if isinstance(interrupt, Stopped) else INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
