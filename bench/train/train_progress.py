"""The segments of a training's schedule (trunk and cool-downs), and its progress."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScheduleSegment:
    """Consecutive steps: a part of the trunk, or a cool-down from it to a budget."""

    first_step: int  # steps taken before it, of trunk and cool-downs
    batches: range  # batch numbers
    images: int | None  # of the budget; None: the trunk

    @property
    def end_step(self) -> int:
        """Return the steps taken at its end."""
        return self.first_step + len(self.batches)

    @property
    def phase(self) -> str:
        """Describe the segment."""
        return "trunk" if self.images is None else f"cool-down to {self.images:,} images"


@dataclass(slots=True)
class TrainProgress:
    """The progress of a training: one loss for each step taken."""

    losses: list[float] = field(default_factory=list)  # in the order in which the steps were taken
    # State of the trunk during every cool-down but the last.
    trunk: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0  # spent before this process
