"""Progress of jobs with elapsed and remaining time: one line per job on standard error."""

import threading
import time

from bench.console.console import log

PRIOR_SHARE = 0.25  # share of all expected seconds after which the pace of the finished jobs alone counts


class Progress:
    """Estimates the remaining time from expected seconds, corrected by the pace of finished jobs.

    The first jobs correct it little: when the first of several parallel jobs ends, the time that has passed belongs to
    all of them.
    """

    def __init__(self, expected_seconds: float) -> None:
        self._expected = expected_seconds
        self._started_at = time.monotonic()
        self._lock = threading.Lock()
        self._done, self._elapsed_at_finish = 0.0, 0.0

    def expect(self, seconds: float) -> None:
        """Add expected seconds; those of a job that is not run are subtracted."""
        with self._lock:
            self._expected += seconds

    def seconds_left(self, saved_seconds: float = 0.0) -> float:
        """Estimate the remaining time, without so many of the expected seconds."""
        with self._lock:
            prior = max(PRIOR_SHARE * self._expected - self._done, 0.0)  # seconds as if done at the expected pace
            pace = (self._elapsed_at_finish + prior) / ((self._done + prior) or 1.0)
            since_finish = time.monotonic() - self._started_at - self._elapsed_at_finish
            return max(0.0, pace * (self._expected - saved_seconds - self._done) - since_finish)

    def log_start(self, label: str) -> None:
        """Log that a job starts."""
        elapsed, left = time.monotonic() - self._started_at, self.seconds_left()
        log(f"{_format_minutes(elapsed):>6} elapsed, about {_format_minutes(left):>5} left | {label}")

    def finish(self, expected_seconds: float) -> None:
        """Count a job as finished."""
        with self._lock:
            self._done += expected_seconds
            self._elapsed_at_finish = time.monotonic() - self._started_at


def format_duration(seconds: float) -> str:
    """Return a duration in the unit that a person would choose: minutes, hours or days."""
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"


def _format_minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
