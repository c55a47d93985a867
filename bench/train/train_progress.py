"""The way of a training: stretches of the trunk and the cool-downs between them, and how far it has come."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Leg:
    """Steps in a row: a stretch of the trunk, or a cool-down from it to a budget."""

    begin: int  # steps taken before, trunk and cool-downs together
    steps: range  # by the numbers of their batches
    images: int | None  # of the budget; None: the trunk

    @property
    def end(self) -> int:
        """Steps taken when it is done."""
        return self.begin + len(self.steps)

    @property
    def phase(self) -> str:
        """Say in words what it is."""
        return "trunk" if self.images is None else f"cool-down to {self.images:,} images"


@dataclass(slots=True)
class Course:
    """How far a training has come: as many steps as there are losses."""

    losses: list[float] = field(default_factory=list)  # in the order in which the steps were taken
    # What the trunk goes on from, while a cool-down is under way that is not the last.
    trunk: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0  # that led to where this process began
