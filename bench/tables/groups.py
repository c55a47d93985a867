"""Items in groups."""

from collections.abc import Callable, Iterable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def group_by(items: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    """Group items by a key, in the order of the keys' first appearance."""
    groups: dict[K, list[V]] = {}
    for item in items:
        group = groups.setdefault(key(item), [])
        group.append(item)
    return groups
