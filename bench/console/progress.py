"""Progress of jobs with elapsed and remaining time, on standard error."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

from bench.console.console import escape_unprintable, log

LINE_SECONDS = 60.0  # between two lines on progress where standard error is no terminal
T = TypeVar("T")
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
        self._done, self._elapsed_at_finish, self._next_line = 0.0, 0.0, 0.0

    def expect(self, seconds: float) -> None:
        """Add expected seconds; those of a job that is not run are subtracted."""
        with self._lock:
            self._expected += seconds

    def seconds_left(self, saved_seconds: float = 0.0) -> float:
        """Estimate the remaining time, without so many of the expected seconds."""
        with self._lock:
            since_finish = time.monotonic() - self._started_at - self._elapsed_at_finish
            return max(0.0, self._pace() * (self._expected - saved_seconds - self._done) - since_finish)

    def corrected(self, expected_seconds: float) -> float:
        """Return so many expected seconds at the pace of the finished jobs."""
        with self._lock:
            return self._pace() * expected_seconds

    def _pace(self) -> float:
        """Return the elapsed seconds per expected second."""
        prior = max(PRIOR_SHARE * self._expected - self._done, 0.0)  # seconds as if done at the expected pace
        return (self._elapsed_at_finish + prior) / ((self._done + prior) or 1.0)

    def log_start(self, label: str) -> None:
        """Log that a job starts; without a terminal at most every LINE_SECONDS."""
        elapsed, left = time.monotonic() - self._started_at, self.seconds_left()
        if not sys.stderr.isatty():
            with self._lock:
                if elapsed < self._next_line:
                    return
                self._next_line = elapsed + LINE_SECONDS
        log(f"{_format_minutes(elapsed):>6} elapsed, about {_format_minutes(left):>5} left | {label}")

    def finish(self, expected_seconds: float) -> None:
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


def make_bar(label: str, total: int, unit: str, *, is_scaled: bool = False) -> Any:
    """Return a tqdm bar of one job: on a terminal a bar; else a line every LINE_SECONDS, the first after that time.

    `is_scaled` shows counts as 1.2M. Nothing is shown if TQDM_DISABLE is set, where several runs share the terminal.
    """
    options = {"desc": escape_unprintable(label), "total": total, "unit": unit, "unit_scale": is_scaled, "leave": False}
    count = "{n_fmt}/{total_fmt} {unit}"
    if sys.stderr.isatty():
        shown = f"{{l_bar}}{{bar}}| {count} [{{elapsed}}<{{remaining}}{{postfix}}]"
        return tqdm(**options, mininterval=1, bar_format=shown)
    times = dict.fromkeys(("mininterval", "maxinterval", "delay"), LINE_SECONDS)
    return tqdm(**options, **times, file=_Lines(), bar_format=f"{{desc}}: {count}, about {{remaining}} left{{postfix}}")


class _Lines:
    """A file to which a bar writes whole lines."""

    def write(self, text: str) -> None:
        if line := text.strip():
            log(line)

    def flush(self) -> None:
        """Do nothing: `log` flushes."""


def show_progress(steps: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    """Yield the steps of a job, and show its progress."""
    with make_bar(label, total, unit) as bar:
        for step in steps:
            yield step
            bar.update()
