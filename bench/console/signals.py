"""Handling of SIGTERM and SIGINT: exit at once, or after the current step is finished and saved."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # exit codes after SIGINT and SIGTERM


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM."""


class StopRequest:
    """Records SIGTERM, SIGINT and the end of the parent process, for a training to check between two steps.

    While `can_save` is False a signal ends the process at once.
    """

    def __init__(self) -> None:
        self.can_save = False
        self._parent = os.getppid()
        self._noted = 0

    @property
    def code(self) -> int:
        """The requested exit code; 0 if there is none."""
        return self._noted or (TERMINATED if os.getppid() != self._parent else 0)

    def handle_signal(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self._noted = INTERRUPTED if number == signal.SIGINT else TERMINATED
        if not self.can_save:
            raise SystemExit(self._noted)


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Handle SIGTERM and SIGINT by a `StopRequest` while the block runs."""
    stop = StopRequest()
    before = {number: signal.signal(number, stop.handle_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
