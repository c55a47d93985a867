"""Tasks: labelled images in three parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Shaped

from bench.transfer.tasks.image_sources import (
    ConcatenatedImages,
    EncodedImageSource,
    ImageSource,
)

VALIDATION_SHARE = 0.25  # of the training part
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images with their class numbers; in tasks with several labels, for each class whether an image shows it."""

    images: ImageSource
    labels: Shaped[np.ndarray, "images ..."]

    def select(self, rows: Sequence[int]) -> "LabelledImages":
        """Return some of the images, which must be in files."""
        assert isinstance(self.images, EncodedImageSource)
        labels = self.labels[np.asarray(rows, dtype=int)]
        return LabelledImages(self.images.select(rows), labels)

    def concatenate(self, other: "LabelledImages") -> "LabelledImages":
        return LabelledImages(
            ConcatenatedImages(self.images, other.images),
            np.concatenate([self.labels, other.labels]),
        )


@dataclass(frozen=True, slots=True)
class TaskWithSplits(Generic[Part]):
    """A data set with a fixed split: settings are tuned on `validation`, `test` is only reported."""

    name: str
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    # Remarks on the files and the split, for the user.
    notes: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class SingleLabelTask(TaskWithSplits[LabelledImages]):
    """A task with one class per image."""
