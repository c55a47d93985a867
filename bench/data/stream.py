"""Batch k of a run, a pure function of the experiment, the rank and k: equal images for every method."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from bench.config import Experiment
from bench.data.order import SampleOrder
from bench.data.targets import Target

T = TypeVar("T", bound=Target)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Images and targets of a step."""

    images: Float[Tensor, "batch channels side side"]  # normalised pixels (3 channels) or embeddings
    target: T

    def micro_batches(self, count: int) -> "list[Batch[T]]":
        """Split it into `count` equal micro-batches."""
        if count == 1:
            return [self]
        rows = torch.arange(len(self.images)).chunk(count)
        return [Batch(self.images[part[0] : part[-1] + 1], self.target.select(part)) for part in rows]


class Stream(ABC, Generic[T]):
    """Batches of a data set on a device, addressed by number."""

    experiment: Experiment
    device: torch.device
    order: SampleOrder
    targets_seconds: float  # spent so far to turn captions into targets
    num_captions: int  # turned into targets in that time
    is_unverified = False  # whether a shard has no manifest to verify it by
    wait_seconds: float = 0.0  # that `batch` has taken so far

    @property
    def skipped(self) -> dict[str, int]:
        """Number of samples skipped so far, by class of error."""
        return {}

    def batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank, and add the time to `wait_seconds`."""
        start = time.perf_counter()
        batch = self.make_batch(k)
        self.wait_seconds += time.perf_counter() - start
        return batch

    @abstractmethod
    def make_batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank, on the device."""

    @abstractmethod
    def target(self, k: int) -> T:
        """Return the target of batch k of this rank, on the CPU."""

    @abstractmethod
    def keys(self, k: int) -> Sequence[str]:
        """Return the keys of batch k's samples."""
