"""Runs that take turns: several are there, each in a process of its own, and one works while the others wait.

A machine that others share has slow seconds and slow minutes. Runs one after the other meet different ones; runs that
take turns window by window meet the same. A turn is a byte from whoever conducts, and the next a byte back.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from bench.environment.slots import TURNS


@dataclass(slots=True)
class Seat:
    """A run's place among those that take turns: the ends of its two pipes."""

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
        """What the run inherits."""
        return self.go, self.say_over

    @property
    def settings(self) -> dict[str, str]:
        """What tells the run."""
        return {TURNS: f"{self.go} {self.say_over}"}

    def close(self) -> None:
        """Close the run's ends here, once: when the run is gone as well, whoever conducts sees it."""
        if not self.is_left:
            self.is_left = True
            for end in self.of_run:
                os.close(end)


def conduct(seats: Iterable[Seat]) -> None:
    """Give each run its turn, over and over in this order, until all are gone."""
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
