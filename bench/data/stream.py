"""Batch k of a run, as a pure function of the experiment, the rank and k: equal images for every method."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from bench.config import Experiment
from bench.data.order import Order
from bench.data.targets import Target

T = TypeVar("T", bound=Target)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What a step reads."""

    images: Float[Tensor, "batch channels side side"]  # normalised, 3 channels; or embeddings
    target: T

    def parts(self, count: int) -> "list[Batch[T]]":
        """Cut it into equal parts."""
        if count == 1:
            return [self]
        rows = torch.arange(len(self.images)).chunk(count)
        return [Batch(self.images[part[0] : part[-1] + 1], self.target.take(part)) for part in rows]


class Stream(ABC, Generic[T]):
    """Batches of a data set on a device, each addressed by its number."""

    experiment: Experiment
    device: torch.device
    order: Order
    targets_seconds: float  # that were spent to turn captions into targets so far
    num_captions: int  # that were turned in these seconds
    wait_seconds: float = 0.0  # that whoever takes batches has waited for them so far

    @property
    def skipped(self) -> dict[str, int]:
        """Samples that could not be used so far, by what is wrong with them."""
        return {}

    @property
    def is_unverified(self) -> bool:
        """Whether nothing says what the data should be."""
        return False

    def batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank, and count how long that took."""
        start = time.perf_counter()
        batch = self.make_batch(k)
        self.wait_seconds += time.perf_counter() - start
        return batch

    @abstractmethod
    def make_batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank."""

    @abstractmethod
    def target(self, k: int) -> T:
        """Return what batch k of this rank reads beside its images, on the CPU."""

    @abstractmethod
    def keys(self, k: int) -> Sequence[str]:
        """Return the names of batch k's samples."""
