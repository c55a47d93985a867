"""Tasks that are read from files: a validation part is held out, and unreadable files are left out."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from bench.transfer.tasks.image_sources import find_readable_rows

VALIDATION_SHARE = 0.25  # of the training part
MAX_VALIDATION = 5000  # images
Task = TypeVar("Task")


class FilePart(Protocol):
    """Examples in files, decoded on access."""

    @property
    def all_files(self) -> Sequence[Path]:
        """The files that are read, beginning with one per example, whose names decide the split."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> object:
        """Decode an example; raises UnreadableImageError."""
        ...

    def select(self, rows: Sequence[int], /) -> "FilePart": ...


def build_task(
    task_class: Callable[..., Task],
    name: str,
    classes: tuple[str, ...],
    train_and_test: Sequence[FilePart],
    cache: Path,
) -> Task:
    """Build a `TaskWithSplits`: hold out a validation part of the training part, and leave out unreadable examples.

    ValueError for too few training examples, or too many unreadable ones.
    """
    train, test = train_and_test
    names = [path.name for path in train.all_files[: len(train)]]
    rows, held_rows = split_train_validation(name, names)
    parts = {"train": train.select(rows), "validation": train.select(held_rows), "test": test}
    notes = list[str]()
    for part_name, part in parts.items():
        rows, note = find_readable_rows(
            part.__getitem__, len(part), part.all_files, cache, f"{name} {part_name}", str(classes)
        )
        parts[part_name] = part.select(rows)
        notes += note
    return task_class(name, classes, *parts.values(), notes=tuple(notes))


def split_train_validation(name: str, image_names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the rows to train on and the rows of a held-out validation part, chosen by a hash of the images' names.

    ValueError for too few images.
    """
    count = len(image_names)
    digests = [hashlib.sha256(image_name.encode()).digest() for image_name in image_names]
    order = sorted(range(count), key=lambda row: digests[row])
    num_held_out = min(MAX_VALIDATION, round(count * VALIDATION_SHARE))
    if not num_held_out:
        raise ValueError(
            f"{name}: of {count} training images none can be set aside to choose on, 3 are the fewest"
        )
    return sorted(order[num_held_out:]), sorted(order[:num_held_out])
