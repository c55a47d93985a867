"""Batches loaded ahead in worker processes, by torch's DataLoader."""

from collections.abc import Iterator
from itertools import count
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch.utils.data import DataLoader, Sampler

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
START_METHOD = "spawn"  # a fork of a process that has threads may wait for ever for a lock that one of them held


@runtime_checkable
class Loads(Protocol[T_co]):
    """What loads batch k, in whatever process it was sent to."""

    def __getitem__(self, k: int, /) -> T_co: ...


class Prefetched(Generic[T]):
    """Gives batch k while k + 1, k + 2, … are loaded; asked for another than the next, the workers begin there."""

    def __init__(self, loads: Loads[T], workers: int) -> None:
        self._numbers = _From()
        self._loader: DataLoader[T] = DataLoader(
            cast("Any", loads),
            batch_size=None,
            sampler=self._numbers,
            num_workers=workers,
            collate_fn=_as_it_is,
            multiprocessing_context=START_METHOD,
            persistent_workers=True,
            generator=torch.Generator(),  # else each start would draw from the generator that the model uses
        )
        self._batches: Iterator[T] = iter(())

    def __call__(self, k: int) -> T:
        """Return batch k."""
        if k != self._numbers.next:
            self._numbers.next = k
            self._batches = iter(self._loader)
        self._numbers.next = k + 1
        return next(self._batches)


class _From(Sampler[int]):
    """All numbers from the next on."""

    def __init__(self) -> None:
        self.next = -1

    def __iter__(self) -> Iterator[int]:
        return count(self.next)


def _as_it_is(batch: T) -> T:
    return batch
