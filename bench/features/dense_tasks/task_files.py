"""Tasks that are read from files: a validation part is held out from the training part."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

VALIDATION_SHARE = 0.25  # of the training part
MAX_VALIDATION = 5000  # images
Task = TypeVar("Task")


class SelectableExamples(Protocol):
    """Examples in files, decoded on access."""

    def select(self, rows: Sequence[int], /) -> "SelectableExamples": ...


def build_task_with_holdout(
    task_class: Callable[..., Task],
    name: str,
    classes: tuple[str, ...],
    train: SelectableExamples,
    test: SelectableExamples,
    train_files: Sequence[Path],
) -> Task:
    """Build a `TaskWithSplits`; the names of `train_files`, one for each training example, decide the split.

    ValueError for too few training examples.
    """
    rows, held_out_rows = split_train_validation(name, [file.name for file in train_files])
    return task_class(name, classes, train.select(rows), train.select(held_out_rows), test)


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
