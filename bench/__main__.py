"""The command line: `python -m bench`, or `catlip-bench` once it is installed.

Without a verb it compares the methods; with a verb it does one thing. Little is imported before `main`: a signal or an
error during the imports ends the program as any other.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from bench.console.console import (
    EXIT_CODE_BY_SIGNAL,
    INTERRUPTED,
    UNEXPECTED,
    USAGE,
    Stopped,
    format_error_on_one_line,
    log,
    log_usage_error_for_exit_code,
    run_and_flush_output,
)

IGNORE_REPEATS_SECONDS = 5.0  # torchrun forwards a signal at once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process; return 0 or an exit code of `bench.console.console`."""
    stop = FirstSignalHandler()
    previous_handlers = {}
    for number in EXIT_CODE_BY_SIGNAL:
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous_handlers[number] = signal.signal(number, stop)
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = run_and_flush_output(lambda: _run_and_log_errors(words))
    except KeyboardInterrupt as interrupt:
        code = interrupt.code if isinstance(interrupt, Stopped) else INTERRUPTED
    if arguments is None:
        stop.has_ended = True
    else:  # the process goes on
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
    return code


def _run_and_log_errors(words: Sequence[str]) -> int:
    """Run a command line; an error is logged in one line, and its exit code is returned."""
    try:
        from bench.cli.main import dispatch

        return dispatch(words)
    except (KeyboardInterrupt, SystemExit, BrokenPipeError):
        raise
    except (ValueError, OSError) as error:
        return log_usage_error_for_exit_code(error)
    except BaseException as error:  # noqa: BLE001 - a defect here, or a panic of a library in Rust
        return log_unexpected_error(error)


def log_unexpected_error(error: BaseException) -> int:
    """Write the traceback to a temporary file, and log the error with its path in one line; return the exit code."""
    import tempfile
    import traceback

    if isinstance(error, ModuleNotFoundError):
        from bench.environment.requirements import find_unmet_requirements, pip_install_command

        unmet = find_unmet_requirements()
        if unmet:
            log(f"error: {error}: install what is missing with {pip_install_command(unmet)}")
            return USAGE
    text = "".join(traceback.format_exception(error))
    number, path = tempfile.mkstemp(".txt", "catlip-bench-error-")
    with os.fdopen(number, "wb") as file:
        file.write(text.encode(errors="backslashreplace"))
    log(
        f"error: {type(error).__name__}: {format_error_on_one_line(error)}; please report this with {path}"
    )
    return UNEXPECTED


class FirstSignalHandler:
    """Handles signals: raises `Stopped` with the exit code of the first.

    Signals of the next seconds do nothing, so that the command can wait for a training that saves its state: SLURM
    signals every process of a job step, and torchrun forwards the signal. Later ones, and any after the command has
    ended, end the process at once.
    """

    def __init__(self) -> None:
        self.has_ended = False  # whether the command has ended, or is ending
        self._raised_at = -math.inf

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        code = EXIT_CODE_BY_SIGNAL[signal.Signals(number)]
        now = time.monotonic()
        if not self.has_ended:
            self.has_ended = True
            self._raised_at = now
            raise Stopped(code)
        if now - self._raised_at > IGNORE_REPEATS_SECONDS:
            os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
