"""SIGTERM and SIGINT: an end at once, or one after the step under way is finished and saved."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # exit codes of what a Ctrl-C or a SIGTERM ended


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


class Stop:
    """A training's answer to SIGTERM, to SIGINT and to the end of its parent.

    While nothing is at stake (`can_save` is off) a signal ends the process at once; later it is noted, for the training
    to look at between two steps.
    """

    def __init__(self) -> None:
        self.can_save = False
        self._parent = os.getppid()
        self._noted = 0

    @property
    def code(self) -> int:
        """The exit code that was asked for; 0 while there is none."""
        return self._noted or (TERMINATED if os.getppid() != self._parent else 0)

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self._noted = INTERRUPTED if number == signal.SIGINT else TERMINATED
        if not self.can_save:
            raise SystemExit(self._noted)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Hand SIGTERM and SIGINT to a `Stop` while the block runs."""
    stop = Stop()
    before = {number: signal.signal(number, stop.note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
