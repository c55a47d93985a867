"""Progress of jobs with elapsed and remaining time: one line per job on standard error."""

import threading
import time

from bench.console.console import log


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
