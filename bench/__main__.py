"""The command line: `python -m bench`, or `catlip-bench` once it is installed.

Without a verb it compares the methods; with a verb it does one thing. `report` is the command line of `reports`.
Little is imported here: a signal that arrives during the imports, which take a second, ends the program as any other.
"""

import math
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from types import FrameType

from bench.console.console import (
    EXIT_CODE_BY_SIGNAL,
    INTERRUPTED,
    PROGRAM,
    UNEXPECTED,
    USAGE,
    Stopped,
    describe_error,
    log,
    run_with_streams,
)
from bench.environment.requirements import find_unmet_requirements, pip_install_command

IGNORE_REPEATS_SECONDS = 5.0  # torchrun forwards a signal at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process; return 0 or an exit code of `bench.console.console`."""
    raise_stopped = StopHandler()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, raise_stopped)
    try:
        return run_with_streams(lambda: _run(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt as interrupt:
        return interrupt.code if isinstance(interrupt, Stopped) else INTERRUPTED
    except ModuleNotFoundError as error:
        unmet = find_unmet_requirements()
        if not unmet:
            return report_unexpected(error)
        log(f"error: {error}: install what is missing with {pip_install_command(unmet)}")
        return USAGE
    except Exception as error:  # noqa: BLE001 - a defect of this program
        return report_unexpected(error)


def _run(arguments: Sequence[str]) -> int:
    if "report" in arguments:
        from bench.interfaces.extensions import split_extension_arguments

        extensions, words = split_extension_arguments(arguments)
        if words[:1] == ["report"]:
            from reports.__main__ import main as report

            options = [f"--extension={name}" for name in extensions]
            return report([*options, *words[1:]], f"{PROGRAM} report")
    from bench.cli.main import dispatch

    return dispatch(arguments)


def report_unexpected(error: Exception) -> int:
    """Log an error that nobody expected as one line, with the file of its traceback; return its exit code."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="catlip-bench-error-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
    log(
        f"error: {type(error).__name__}: {describe_error(error)}; please report this with {file.name}"
    )
    return UNEXPECTED


class StopHandler:
    """Handles a signal: raises `Stopped` with its exit code.

    Signals of the next seconds do nothing, so that the command can wait for a training that saves its state: SLURM
    signals every process of a job step, and torchrun forwards the signal.
    """

    def __init__(self) -> None:
        self._raised_at = -math.inf

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._raised_at > IGNORE_REPEATS_SECONDS:
            self._raised_at = now
            raise Stopped(EXIT_CODE_BY_SIGNAL[signal.Signals(number)])


if __name__ == "__main__":
    sys.exit(main())
