"""Subsets of the labelled images that accuracy is measured against, and the notes of tables on them. No torch here."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from bench.scores import Score

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
Rows = Int[np.ndarray, " _"]
RowsByClass = list[Rows]  # the rows of a part, class by class


def class_orders(salt: str, labels: Int[np.ndarray, " images"], num_classes: int) -> RowsByClass:
    """Return each class's rows in an order that depends on the salt alone."""
    shuffled = np.random.default_rng([*hashlib.sha256(salt.encode()).digest()]).permutation(len(labels))
    return [shuffled[labels[shuffled] == label] for label in range(num_classes)]


def first_rows(order: RowsByClass, *, shots: int | None = None, share: float = 1.0) -> Rows:
    """Return the first `shots` rows of each class, or else a share of each class."""
    return np.concatenate([rows[: images_for_share(len(rows), share) if shots is None else shots] for rows in order])


def images_for_share(size: int, share: float) -> int:
    """Return the number of images in a share of a class: at least one, if there is one."""
    return min(size, max(1, round(size * share)))


def distinct_shares(sizes: Sequence[int]) -> list[float]:
    """Return the shares that select different images, given the sizes of the classes; of equal ones the smallest."""
    first = {tuple(sizes): SHARES[-1]}
    for share in SHARES:
        first.setdefault(tuple(images_for_share(size, share) for size in sizes), share)
    return sorted(first.values())


def describe_omitted_shares(scores: Iterable[Score]) -> str:
    """Return a note on the shares that have no score because they equal another share."""
    scored = {score.label_share for score in scores} - {None}
    absent = ", ".join(f"{share:.0%}" for share in SHARES if share not in scored)
    note = f"\n{absent}: the same images as another share, because each class keeps at least one image."
    return note if scored and absent else ""


def describe_small_classes(scores: Iterable[Score]) -> str:
    """Return a note on the numbers of shots that exceed the size of some class."""
    short = {one.per_class for one in scores if one.per_class and one.num_train < one.per_class * one.num_classes}
    numbers = ", ".join(map(str, sorted(short, key=int)))
    return f"\n{numbers} per class: classes with fewer images contribute all of theirs." if short else ""
