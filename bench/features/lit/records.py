"""Records of zero-shot scores, with the cost of both phases. No torch here."""

from typing import Annotated

import msgspec

from bench.records.record import NonNegative, PositiveCount, RunOnSamples
from bench.records.scores import Count


class ZeroShotScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For which test items of a task the nearest text or image, by cosine, was right."""

    task: str
    # "1" or "0" for each test item, in the task's order.
    correct: Annotated[str, msgspec.Meta(pattern="^[01]+$")]
    num_candidates: PositiveCount  # texts or images of which the nearest was taken


class SecondPhase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The training of a text tower and a projection on the stored features of a locked image tower."""

    loss: str  # name of the method whose loss it has
    images: PositiveCount  # number of image-caption pairs seen
    # Device seconds of computing the features of all images of the data once, also if an earlier run did it.
    feature_seconds: NonNegative
    text_seconds: NonNegative  # device seconds of the steps
    last_loss: float  # of the last step, in nats


class ZeroShot(RunOnSamples, frozen=True, kw_only=True, tag="zero-shot"):
    """The zero-shot scores of one image tower, and what it cost to train it and its text tower."""

    tower: str  # experiment that trained it, or name of a tower that was trained elsewhere
    pretraining_images: Count | None  # None: not known
    # Device seconds of its training on this machine; None: not known.
    pretraining_seconds: NonNegative | None
    # None: the text tower was trained with the image tower.
    second_phase: SecondPhase | None
    total_seconds: NonNegative | None  # that both phases were to take; None: the images were given
    price: NonNegative | None  # of one device-hour, in any currency
    scores: tuple[ZeroShotScore, ...]

    @property
    def second_images(self) -> int:
        """The images of the second phase; 0 without one."""
        return self.second_phase.images if self.second_phase else 0

    @property
    def second_seconds(self) -> float:
        """The device seconds of the second phase; 0 without one."""
        phase = self.second_phase
        return phase.feature_seconds + phase.text_seconds if phase else 0.0
