"""Subsets of the labelled images that accuracy is measured against. No torch here."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
Rows = Int[np.ndarray, " _"]
RowsByClass = list[Rows]  # rows of a part for each class, in a drawn order


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


def list_distinct_shares(parts: Sequence[RowsByClass]) -> list[float]:
    """Return the shares in `SHARES` that select different images; of equal selections the smallest share, and 1."""
    sizes = [len(rows) for part in parts for rows in part]
    # The smallest share that selects these numbers of images.
    share_of_sizes = {tuple(sizes): SHARES[-1]}
    for share in SHARES:
        selected = tuple(count_images_in_share(size, share) for size in sizes)
        share_of_sizes.setdefault(selected, share)
    return sorted(share_of_sizes.values())
