"""Batch k of a run, as a pure function of the experiment, the rank and k: equal images for every method."""

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

    images: Float[Tensor, "batch 3 side side"]
    target: T


class Stream(ABC, Generic[T]):
    """Batches of a data set on a device, each addressed by its number."""

    experiment: Experiment
    device: torch.device
    order: Order
    targets_seconds: float  # that were spent to turn captions into targets, before the first batch
    num_captions: int  # that were turned in these seconds
    wait_seconds: float = 0.0  # that a training's steps waited for their batches

    @abstractmethod
    def batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank."""

    @abstractmethod
    def target(self, k: int) -> T:
        """Return what batch k of this rank reads beside its images, on the CPU."""

    @abstractmethod
    def keys(self, k: int) -> Sequence[str]:
        """Return the names of batch k's samples."""
