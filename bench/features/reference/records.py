"""Records of comparisons with other people's training code. No torch here."""

from typing import Annotated

import msgspec

from bench.environment.circumstances import MAX_ENTRIES
from bench.records.record import AuthorsRun, Durations, NonNegative, PositiveCount
from bench.records.record_kind import RecordContent
from bench.records.scores import Count

TOWER_KEY = "model.classification.vit.mode"  # of CoreNet's files: the size of the tower


class ReferenceRun(RecordContent, frozen=True, kw_only=True, tag="reference"):
    """One side of a comparison with other people's training code: a run of theirs or of ours."""

    side: str
    round: Count
    window_seconds: Durations
    losses: tuple[float, ...]  # of the first step with each batch, warm-up included
    # Computed, padding included; None: the method reads no text.
    tokens_per_caption: NonNegative | None
    commit: str = ""  # commit of the checkout beside which it ran; empty: none


class ReleasedRun(AuthorsRun, frozen=True, kw_only=True, tag="released-run"):
    """Windows of the authors' training loop with their configuration file, the device idle at both ends of each."""

    # Keys of the file whose values were changed, by dotted names: both values and the reason.
    changed: Annotated[dict[str, str], msgspec.Meta(max_length=MAX_ENTRIES)] = {}
    gpus: PositiveCount  # processes, one a device
    round: Count
    window_images: tuple[PositiveCount, ...]  # processed in each window by one process
    window_seconds: Durations
    losses: tuple[float, ...]  # of every step, warm-up included

    def __post_init__(self) -> None:
        """Raise ValueError for windows without a number of images."""
        if len(self.window_images) != len(self.window_seconds):
            raise ValueError(f"window_images must be of all {len(self.window_seconds)} windows")

    @property
    def has_other_tower(self) -> bool:
        """Whether the key of the tower's size is changed."""
        return TOWER_KEY in self.changed

    @property
    def images_per_second(self) -> float:
        """The images per second of all processes over all windows, which have images of several sizes."""
        return self.gpus * sum(self.window_images) / sum(self.window_seconds)
