"""What comparisons with other people's training code leave. No torch here."""

from typing import Annotated, Literal

import msgspec

from bench.environment.circumstances import MAX_ENTRIES
from bench.records.record import AuthorsRun, NonNegative, Phases, PositiveCount, Seconds
from bench.records.record_kind import RecordKind
from bench.records.scores import Count


class ReferenceRun(RecordKind, frozen=True, kw_only=True, tag="reference"):
    """One side of a comparison with other people's training code: a run of theirs or of ours."""

    side: str
    round: Count
    window_seconds: Seconds
    losses: tuple[float, ...]  # of the first step with each batch, warm-up included
    tokens_per_caption: NonNegative | None  # computed, padding included
    target_bytes_per_image: NonNegative | None  # label targets handed to the device
    phase_seconds: Phases = {}  # of the steps after the windows; empty: not measured
    commit: str = ""  # of the checkout beside which it ran; empty: none


class ReleasedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key of a configuration file, and what a run did with its value."""

    state: Literal["used", "changed", "not used", "unclassified"]
    released: str  # value in the file, as JSON
    used: str = ""  # value of a changed key, as JSON
    reason: str = ""  # why it is changed or not used


class ReleasedRun(AuthorsRun, frozen=True, kw_only=True, tag="released-run"):
    """Windows of the authors' training loop with their configuration file, the device idle at both ends of each."""

    keys: Annotated[dict[str, ReleasedKey], msgspec.Meta(max_length=MAX_ENTRIES)] = {}  # of the file, by dotted names
    gpus: PositiveCount  # processes, one a device
    round: Count
    window_images: tuple[PositiveCount, ...]  # processed in each, by one process
    window_seconds: Seconds
    image_sizes: tuple[tuple[PositiveCount, PositiveCount, PositiveCount], ...]  # height, width and images of each step
    losses: tuple[float, ...]  # of every step, warm-up included
    gradient_norms: tuple[float | None, ...] = ()  # of every step; None: not finite; empty: the file computes none

    def __post_init__(self) -> None:
        """Raise ValueError for a figure that some windows or some steps lack."""
        if len(self.window_images) != len(self.window_seconds):
            raise ValueError(f"window_images must be of all {len(self.window_seconds)} windows")
        if {len(self.image_sizes), len(self.gradient_norms) or len(self.losses)} != {len(self.losses)}:
            raise ValueError(f"image_sizes and gradient_norms must be of all {len(self.losses)} steps")

    @property
    def changed(self) -> dict[str, str]:
        """The keys whose value is not that of the file, each with both values and the reason."""
        changed = {key: one for key, one in self.keys.items() if one.state == "changed"}
        return {key: f"used {one.used}, released {one.released}: {one.reason}" for key, one in changed.items()}

    @property
    def has_other_tower(self) -> bool:
        """Whether the key of the tower's size is changed."""
        return "model.classification.vit.mode" in self.changed

    @property
    def images_per_second(self) -> float:
        """The images per second of all processes over all windows, which have images of several sizes."""
        return self.gpus * sum(self.window_images) / sum(self.window_seconds)
