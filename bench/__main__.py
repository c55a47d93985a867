"""The command line: `python -m bench`, or `catlip-bench` once it is installed.

Without a verb it compares the methods; with a verb it does one thing. `report` is the command line of `reports`, and
`claim` is its verb of that name.
Little is imported here: a signal that arrives during the imports, which take a second, ends the program as any other.
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from bench.console.console import INTERRUPTED, PROGRAM, SIGNAL_CODES, Stopped, end_with_reader


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process; return 0 or an exit code of `bench.console.console`."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, raise_stopped)
    try:
        return end_with_reader(lambda: _run(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt as interrupt:
        return interrupt.code if isinstance(interrupt, Stopped) else INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in ("report", "claim"):
        from reports.__main__ import main as report

        return report(arguments, PROGRAM) if arguments[0] == "claim" else report(arguments[1:], f"{PROGRAM} report")
    from bench.cli.main import dispatch

    return dispatch(arguments)


def raise_stopped(number: int, _frame: FrameType | None) -> NoReturn:
    """Raise what ends a command that a signal reaches.

    From then on the signal is ignored: SLURM sends it to all processes, and torchrun sends it once more, while a
    training saves its state.
    """
    signal.signal(number, signal.SIG_IGN)
    raise Stopped(SIGNAL_CODES[signal.Signals(number)])


if __name__ == "__main__":
    sys.exit(main())
