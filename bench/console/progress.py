"""What is running, and how long it will take: one line a job on standard error."""

import threading
import time

from bench.console.console import say


class Progress:
    """Counts jobs by the seconds they were expected to take and corrects the rest by those already done."""

    def __init__(self, expected_seconds: float) -> None:
        self._expected = expected_seconds
        self._started_at = time.monotonic()
        self._lock = threading.Lock()
        self._done, self._gone_at_last = 0.0, 0.0

    def expect(self, seconds: float) -> None:
        """Add to what is to be done."""
        with self._lock:
            self._expected += seconds

    def started(self, label: str) -> None:
        """Tell that a job begins."""
        with self._lock:
            gone = time.monotonic() - self._started_at
            left = _clock(self._seconds_left(gone))
            say(f"{_clock(gone):>6} gone, about {left:>5} left | {label}")

    def skipped(self, expected_seconds: float) -> None:
        """Tell that a job of this expectation need not be done."""
        with self._lock:
            self._expected -= expected_seconds

    def finished(self, expected_seconds: float) -> None:
        """Tell that a job of this expectation is done."""
        with self._lock:
            self._done += expected_seconds
            self._gone_at_last = time.monotonic() - self._started_at

    def _seconds_left(self, gone: float) -> float:
        pace = self._gone_at_last / self._done if self._done else 1.0
        return max(0.0, pace * (self._expected - self._done) - (gone - self._gone_at_last))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
