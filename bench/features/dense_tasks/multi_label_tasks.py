"""Tasks whose images show several classes at once, or none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from bench.transfer.tasks.image_sources import (
    ConcatenatedImages,
    FileImageSource,
    ImageSource,
    readable_rows,
)
from bench.transfer.tasks.tasks import TaskWithSplits

# Share of the training part, and largest number of images.
VALIDATION_SHARE, MAX_VALIDATION = (
    0.25,
    5000,
)


@dataclass(frozen=True, slots=True, eq=False)
class MultiLabelPart:
    """Images and the classes that they show."""

    images: ImageSource
    labels: Bool[np.ndarray, "images classes"]
    # Neither positive nor negative: left out of losses and metrics.
    unjudged: Bool[np.ndarray, "images classes"]

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.labels) == len(self.unjudged)
        assert not (self.labels & self.unjudged).any()

    @property
    def file_images(self) -> FileImageSource:
        """The images of a part that is read from files."""
        assert isinstance(self.images, FileImageSource)
        return self.images

    def select(self, rows: Sequence[int]) -> "MultiLabelPart":
        return MultiLabelPart(self.file_images.select(rows), self.labels[rows], self.unjudged[rows])

    def concatenate(self, other: "MultiLabelPart") -> "MultiLabelPart":
        labels = np.vstack([self.labels, other.labels])
        unjudged = np.vstack([self.unjudged, other.unjudged])
        return MultiLabelPart(ConcatenatedImages(self.images, other.images), labels, unjudged)


@dataclass(frozen=True, slots=True)
class MultiLabelTask(TaskWithSplits[MultiLabelPart]):
    """A task whose images show several classes at once, or none."""

    def __post_init__(self) -> None:
        for part in ("train", "validation", "test"):
            if not getattr(self, part).labels.any():
                raise ValueError(f"{self.name}: no image of the {part} part shows any class")


def build_task_from_files(
    name: str,
    classes: tuple[str, ...],
    train: MultiLabelPart,
    validation: MultiLabelPart | None,
    test: MultiLabelPart,
    notes: Sequence[str],
    cache: Path,
) -> MultiLabelTask:
    """Build a task without unreadable files; without a validation part, one is held out from `train`.

    ValueError for too many unreadable files.
    """
    notes = [*notes]
    if validation is None:
        rows, held_rows = split_train_validation(
            name, [path.name for path in train.file_images.files]
        )
        notes.append(
            f"{name}: {len(held_rows):,} of {len(train.images):,} images of train are set aside to choose on"
        )
        validation = train.select(held_rows)
        train = train.select(rows)
    parts = {"train": train, "validation": validation, "test": test}
    for part_name, part in parts.items():
        images = part.file_images
        rows, note = readable_rows(
            images.rgb, len(images), images.files, cache, f"{name} {part_name}"
        )
        parts[part_name] = part.select(rows)
        notes += note
    return MultiLabelTask(name, classes, *parts.values(), notes=tuple(notes))


def split_train_validation(name: str, image_names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the rows to train on and the rows of a held-out validation part, chosen by a hash of the images' names.

    ValueError for too few images.
    """
    count = len(image_names)
    order = sorted(range(count), key=lambda row: hashlib.sha256(image_names[row].encode()).digest())
    held = min(MAX_VALIDATION, round(count * VALIDATION_SHARE))
    if not held:
        raise ValueError(
            f"{name}: of {count} training images none can be set aside to choose on, 3 are the fewest"
        )
    return sorted(order[held:]), sorted(order[:held])
