"""Exit codes, and what a terminal shows: text with control characters escaped, and the progress of jobs."""

import sys
import threading
import time
from pathlib import Path

# Exit codes of commands; those of signals are in `bench.console.signals`.
OK, DISAGREEMENT, USAGE, FAILED_CASE, INCONCLUSIVE = 0, 1, 2, 3, 4
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


class Progress:
    """Estimates the remaining time from expected seconds, corrected by the pace of finished jobs."""

    def __init__(self, expected_seconds: float) -> None:
        self._expected = expected_seconds
        self._started_at = time.monotonic()
        self._lock = threading.Lock()
        self._done, self._elapsed_at_finish = 0.0, 0.0

    def expect(self, seconds: float) -> None:
        """Add expected seconds."""
        with self._lock:
            self._expected += seconds

    def started(self, label: str) -> None:
        """Log that a job starts."""
        with self._lock:
            elapsed = time.monotonic() - self._started_at
            left = _clock(self._seconds_left(elapsed))
            log(f"{_clock(elapsed):>6} elapsed, about {left:>5} left | {label}")

    def skipped(self, expected_seconds: float) -> None:
        """Remove a job that is not run."""
        with self._lock:
            self._expected -= expected_seconds

    def finished(self, expected_seconds: float) -> None:
        """Count a job as finished."""
        with self._lock:
            self._done += expected_seconds
            self._elapsed_at_finish = time.monotonic() - self._started_at

    def _seconds_left(self, elapsed: float) -> float:
        pace = self._elapsed_at_finish / self._done if self._done else 1.0
        return max(0.0, pace * (self._expected - self._done) - (elapsed - self._elapsed_at_finish))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
