"""Subsets of the labelled images that accuracy is measured against. No torch here."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

MAX_SHOTS_TO_TUNE = 4  # validation images per class
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
Rows = Int[np.ndarray, " _"]
RowsByClass = list[Rows]  # rows of a part for each class, in a drawn order


class RowOrdersOfDraw(NamedTuple):
    """The rows of each class in the shuffled order of a draw, for the training and the validation part."""

    train: RowsByClass
    validation: RowsByClass


class LabelSubset(NamedTuple):
    """The labelled images of a point of a curve, in every draw."""

    # Of `AccuracyScore`: the number of labels per class, or their share.
    score_fields: dict[str, Any]
    train_rows: list[Rows]  # of each draw
    validation_rows: list[Rows]


def make_shots_subset(orders: Sequence[RowOrdersOfDraw], shots: int) -> LabelSubset:
    """Return the first `shots` images of each class; for validation as many, but at most four."""
    validation_shots = min(shots, MAX_SHOTS_TO_TUNE)
    return LabelSubset(
        {"per_class": shots},
        [select_first_rows_of_each_class(order.train, shots=shots) for order in orders],
        [
            select_first_rows_of_each_class(order.validation, shots=validation_shots)
            for order in orders
        ],
    )


def iterate_share_subsets(orders: Sequence[RowOrdersOfDraw]) -> Iterator[LabelSubset]:
    """Yield the subsets for shares of the labels of both parts; all labels are a single draw."""
    for share in SHARES:
        draws = orders[:1] if share == 1 else orders
        yield LabelSubset(
            {"label_share": share},
            [select_first_rows_of_each_class(order.train, share=share) for order in draws],
            [select_first_rows_of_each_class(order.validation, share=share) for order in draws],
        )


def shuffle_rows_by_class(
    salt: str, labels: Int[np.ndarray, " images"], num_classes: int
) -> RowsByClass:
    """Return the rows of each class, shuffled in an order that depends on the salt alone."""
    seed = list(hashlib.sha256(salt.encode()).digest())
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return [shuffled[labels[shuffled] == label] for label in range(num_classes)]


def select_first_rows_of_each_class(
    rows_by_class: RowsByClass, *, shots: int | None = None, share: float = 1.0
) -> Rows:
    """Return the first `shots` rows of each class, or without `shots` the first share of each class."""
    first = []
    for rows in rows_by_class:
        number = count_images_in_share(len(rows), share) if shots is None else shots
        first.append(rows[:number])
    return np.concatenate(first)


def count_images_in_share(class_size: int, share: float) -> int:
    """Return the number of images in a share of a class: at least one, if there is one."""
    return min(class_size, max(1, round(class_size * share)))
