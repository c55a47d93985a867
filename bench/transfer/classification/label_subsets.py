"""Subsets of the labelled images that accuracy is measured against. No torch here."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
Rows = Int[np.ndarray, " _"]
RowsByClass = list[Rows]  # the rows of a part, class by class


def class_orders(salt: str, labels: Int[np.ndarray, " images"], num_classes: int) -> RowsByClass:
    """Return each class's rows in an order that depends on the salt alone."""
    seed = list(hashlib.sha256(salt.encode()).digest())
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    return [shuffled[labels[shuffled] == label] for label in range(num_classes)]


def first_rows(order: RowsByClass, *, shots: int | None = None, share: float = 1.0) -> Rows:
    """Return the first `shots` rows of each class, or else a share of each class."""
    first = []
    for rows in order:
        number = images_for_share(len(rows), share) if shots is None else shots
        first.append(rows[:number])
    return np.concatenate(first)


def images_for_share(size: int, share: float) -> int:
    """Return the number of images in a share of a class: at least one, if there is one."""
    return min(size, max(1, round(size * share)))


def distinct_shares(order: Sequence[RowsByClass]) -> list[float]:
    """Return the shares that select different images of some parts; of equal ones the smallest, and all labels."""
    sizes = [len(rows) for part in order for rows in part]
    # The smallest share that selects these numbers of images.
    share_of_sizes = {tuple(sizes): SHARES[-1]}
    for share in SHARES:
        selected = tuple(images_for_share(size, share) for size in sizes)
        share_of_sizes.setdefault(selected, share)
    return sorted(share_of_sizes.values())
