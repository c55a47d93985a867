"""Exit codes, signals, and text on a terminal with its control characters escaped."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

from bench.environment.variables import END_TIME, read_integer_environment_variable

# Exit codes of commands.
OK = 0
DISAGREEMENT = 1
USAGE = 2
FAILED_CASE = 3
INCONCLUSIVE = 4
UNEXPECTED = 70  # exit code after an error that nobody expected (EX_SOFTWARE of sysexits.h)
# Exit codes after SIGINT, without a reader, after SIGTERM.
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143
REQUEUE = 75  # exit code after SIGUSR1, or before a job's time is over: requeue the command (EX_TEMPFAIL of sysexits.h)
EXIT_CODE_BY_SIGNAL = {
    signal.SIGINT: INTERRUPTED,
    signal.SIGTERM: TERMINATED,
    signal.SIGUSR1: REQUEUE,
}
# Numbers of the standard streams.
STDOUT = 1
STDERR = 2
END_MARGIN_SECONDS = 120.0  # time left to save before SLURM ends the job
# The program as a person started it, for messages that name a command: child processes inherit it.
if Path(sys.argv[0]).name == "catlip-bench":
    os.environ["CATLIP_BENCH_PROGRAM"] = "catlip-bench"
PROGRAM = os.environ.setdefault("CATLIP_BENCH_PROGRAM", "python -m bench")


class Stopped(KeyboardInterrupt):
    """The process received a signal to end, or ends before its job's time is over; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class UserError(ValueError):
    """An error whose message says what a person can do about it, so that a run prints no stack."""


class StopRequest:
    """Records signals to end, the end of the parent process, and the end of the job's time.

    A training checks it between two steps. While `can_save` is False a signal ends the process at once.
    """

    def __init__(self) -> None:
        self.can_save = False
        self._parent = os.getppid()
        self._code = 0
        end = read_integer_environment_variable(END_TIME)
        self._last_moment = math.inf if end is None else end - END_MARGIN_SECONDS

    @property
    def exit_code(self) -> int:
        """The requested exit code; 0 if there is none."""
        if self._code or os.getppid() != self._parent:
            return self._code or TERMINATED
        return REQUEUE if time.time() > self._last_moment else 0

    def handle_signal(self, number: int, _frame: FrameType | None) -> None:
        self._code = EXIT_CODE_BY_SIGNAL[signal.Signals(number)]
        if not self.can_save:
            raise SystemExit(self._code)


@contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Note the signals of `EXIT_CODE_BY_SIGNAL` in a `StopRequest` while the block runs.

    Until its `can_save` is set, a signal ends the process at once.
    """
    stop = StopRequest()
    before = {number: signal.signal(number, stop.handle_signal) for number in EXIT_CODE_BY_SIGNAL}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_and_flush_output(run: Callable[[], int]) -> int:
    """Run a command, flush its output, and return its exit code.

    It is BROKEN_PIPE once the reader of the output has ended, as `head` does. A standard stream that is closed is
    opened onto nothing, so that no file gets its number. Characters that the encoding of standard output lacks are
    escaped.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(STDOUT, "w")
    sys.stderr = sys.stderr or os.fdopen(STDERR, "w")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    code = OK
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        code = BROKEN_PIPE
    except (OSError, ValueError) as error:  # standard output is full or was closed
        usage_code = log_usage_error_for_exit_code(error)
        code = code or usage_code
    else:
        return code
    for number in (STDOUT, STDERR):  # Python flushes them again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return code


def escape_unprintable(text: str) -> str:
    r"""Escape characters that are not printable as Python does (`\x1b`): controls, line breaks, bidi marks."""
    escaped = []
    for character in text:
        if character.isprintable():
            escaped.append(character)
        else:
            escaped.append(character.encode("unicode_escape").decode())
    return "".join(escaped)


def escape_unprintable_lines(text: str) -> str:
    """Escape characters that are not printable, but for line feeds."""
    return "\n".join(map(escape_unprintable, text.split("\n")))


def format_error_on_one_line(error: BaseException | str) -> str:
    """Return an error's message as one line, escaped.

    Where a name is no UTF-8, the message is to rename it.
    """
    if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
        return escape_unprintable(f"{error.object!r} is not UTF-8, rename the file or folder")
    lines = [line.strip() for line in str(error).splitlines()]
    return escape_unprintable(" ".join(lines))


def require_utf8(*names: str) -> None:
    """Raise UnicodeEncodeError, a ValueError, for a name that is not UTF-8: JSON and Parquet hold UTF-8 only."""
    for name in names:
        name.encode()


def log(text: str) -> None:
    """Print lines to standard error, escaped.

    It is one write, so that lines of several processes do not mix. They are lost where it is full or has no reader: no
    training ends for its log.
    """
    stream = sys.stderr or sys.__stderr__  # an extension may have set it to None
    if stream is None:
        return
    with suppress(OSError):
        stream.write(f"{escape_unprintable_lines(text)}\n")
        stream.flush()


def log_usage_error_for_exit_code(error: Exception) -> int:
    """Log an error that the person can correct, and return the exit code USAGE.

    It is one line, unless it is a UserError.
    """
    text = str(error) if isinstance(error, UserError) else format_error_on_one_line(error)
    log(f"error: {text}")
    return USAGE


def log_damaged_files_for_exit_code(file_errors: Sequence[str]) -> int:
    """Log the errors of damaged files, which are left out, and return the exit code: OK if there are none."""
    for error in file_errors:
        log(f"left out: {error}")
    return FAILED_CASE if file_errors else OK
