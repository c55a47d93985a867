"""Progress of runs with elapsed and remaining time, on standard error."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from tqdm import tqdm

from bench.console.console import escape_unprintable, log

LINE_SECONDS = 60.0  # between two lines on progress where standard error is no terminal
T = TypeVar("T")


class RunProgressLog:
    """Logs the start of runs with the elapsed time, and with the remaining time once it is known."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._expected_end: float | None = None  # of time.monotonic(); None: not known yet
        self._next_line = 0.0

    def set_remaining_seconds(self, seconds: float) -> None:
        """Set the remaining time, which counts down from now."""
        self._expected_end = time.monotonic() + seconds

    def log_run_start(self, label: str) -> None:
        """Log that a run starts, with the elapsed and the remaining time.

        Without a terminal it logs at most every LINE_SECONDS.
        """
        now = time.monotonic()
        elapsed = now - self._started_at
        if not sys.stderr.isatty():
            if elapsed < self._next_line:
                return
            self._next_line = elapsed + LINE_SECONDS
        left = "estimating"
        if self._expected_end is not None:
            left = f"about {timedelta(seconds=round(max(0.0, self._expected_end - now)))} left"
        log(f"{timedelta(seconds=round(elapsed))} elapsed, {left} | {label}")


class _LoggingTextStream:
    """A text stream for a progress bar that logs each line."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            log(line)

    def flush(self) -> None:
        """Do nothing: `log` flushes."""


def iterate_with_progress_bar(steps: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    """Yield the steps of a job while tqdm shows its progress.

    On a terminal it is a bar, else a line every LINE_SECONDS, the first after that time. Nothing is shown if
    TQDM_DISABLE is set, where several runs share the terminal.
    """
    is_terminal = sys.stderr.isatty()
    seconds = 1.0 if is_terminal else LINE_SECONDS
    yield from tqdm(
        steps,
        desc=escape_unprintable(label),
        total=total,
        unit=unit,
        leave=False,
        mininterval=seconds,
        maxinterval=10 * seconds,
        delay=0 if is_terminal else seconds,
        file=None if is_terminal else _LoggingTextStream(),
    )
