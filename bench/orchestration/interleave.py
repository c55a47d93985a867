"""Interleaved runs: several processes, of which one works while the others wait.

A shared machine has slow seconds and slow minutes. Consecutive runs meet different ones; runs interleaved window by
window meet the same. A slot begins with a byte from the scheduler and ends with a byte back.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bench.environment.slots import SLOT_VARIABLE


@dataclass(slots=True)
class Slot:
    """The ends of the two pipes between an interleaved run and the scheduler."""

    grant_read: int  # read by the run
    grant_write: int
    done_read: int
    done_write: int  # written by the run
    is_closed: bool = False

    @classmethod
    def create(cls) -> "Slot":
        """Open the pipes."""
        return cls(*os.pipe(), *os.pipe())

    @property
    def run_ends(self) -> tuple[int, int]:
        """Return the ends that the run inherits."""
        return self.grant_read, self.done_write

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variable that names these ends."""
        return {SLOT_VARIABLE: f"{self.grant_read} {self.done_write}"}

    def close(self) -> None:
        """Close the run's ends in this process, once: the scheduler then notices when the run ends."""
        if not self.is_closed:
            self.is_closed = True
            for end in self.run_ends:
                os.close(end)


def round_robin(slots: Iterable[Slot]) -> None:
    """Give the runs slots in this order, repeatedly, until all have ended."""
    left = list(slots)
    while left:
        for slot in tuple(left):
            with suppress(BrokenPipeError):
                os.write(slot.grant_write, b"!")
                if os.read(slot.done_read, 1):
                    continue
            left.remove(slot)
            os.close(slot.grant_write)
            os.close(slot.done_read)
