"""Records of zero-shot scores, with the cost of both phases. No torch here."""

from typing import Annotated

import msgspec

from bench.records.record import NonNegative, PositiveCount
from bench.records.record_kind import RecordContent
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
    stored_features: PositiveCount  # number of images whose features were computed, once each
    feature_seconds: NonNegative  # device seconds of computing them, also if an earlier run did it
    text_seconds: NonNegative  # device seconds of the steps
    last_loss: float  # of the last step, in nats


class ZeroShot(RecordContent, frozen=True, kw_only=True, tag="zero-shot"):
    """The zero-shot scores of one image tower, and what it cost to train it and its text tower."""

    tower: str  # name of its file
    method: str  # that trained it
    pretraining_images: Count
    # Device seconds of its training on this machine; None: not known.
    pretraining_seconds: NonNegative | None
    # None: the text tower was trained with the image tower.
    second_phase: SecondPhase | None
    scores: tuple[ZeroShotScore, ...]
