"""Interleaved runs: several processes, of which one works while the others wait.

A shared machine has slow seconds and slow minutes. Consecutive runs meet different ones; runs interleaved window by
window meet the same. A slot begins with a byte from the scheduler and ends with a byte back.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bench.environment.slots import TURNS


@dataclass(slots=True)
class Seat:
    """The ends of the two pipes between an interleaved run and the scheduler."""

    go: int  # read by the run
    say_go: int
    over: int
    say_over: int  # written by the run
    is_left: bool = False

    @classmethod
    def take(cls) -> "Seat":
        """Open the pipes."""
        return cls(*os.pipe(), *os.pipe())

    @property
    def of_run(self) -> tuple[int, int]:
        """Return the ends that the run inherits."""
        return self.go, self.say_over

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment variable that names these ends."""
        return {TURNS: f"{self.go} {self.say_over}"}

    def close(self) -> None:
        """Close the run's ends in this process, once: the scheduler then notices when the run ends."""
        if not self.is_left:
            self.is_left = True
            for end in self.of_run:
                os.close(end)


def conduct(seats: Iterable[Seat]) -> None:
    """Give the runs slots in this order, repeatedly, until all have ended."""
    left = list(seats)
    while left:
        for seat in tuple(left):
            with suppress(BrokenPipeError):
                os.write(seat.say_go, b"!")
                if os.read(seat.over, 1):
                    continue
            left.remove(seat)
            os.close(seat.say_go)
            os.close(seat.over)
