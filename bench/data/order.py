"""The samples of batch k: consecutive positions in an endless sequence of shuffled epochs."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from bench.data.image_sizes import image_size_at, images_before_step
from bench.environment.seeds import ORDER, derive_seed
from bench.experiment.config import Experiment

StepSize = tuple[int, int]  # side of a step's images in pixels, and their number on one device


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """The order of a data set's samples on one of `world_size` processes: a pure function of these fields."""

    experiment: Experiment
    num_samples: int  # samples of the data set
    rank: int = 0
    world_size: int = 1
    sizes: tuple[StepSize, ...] = ()  # of the first steps, repeated by later ones; empty: as the experiment draws them

    def batch_rows(self, k: int) -> Int[Tensor, " batch"]:
        """Return the samples of batch k, equally many on every rank."""
        start, size = self._places(k)
        return shuffled_rows(self.experiment.seed, self.num_samples, start=start, size=size)

    def batch_epochs(self, k: int) -> list[int]:
        """Return the epoch of each sample of batch k, from 0."""
        start, size = self._places(k)
        return [place // self.num_samples for place in range(start, start + size)]

    def image_size(self, k: int) -> int:
        """Return the side in pixels of batch k's images, equal on every rank."""
        side, _ = self._size(k)
        return side

    def _places(self, k: int) -> tuple[int, int]:
        """Return the place of batch k's first sample in the sequence of epochs, and their number."""
        _, size = self._size(k)
        return self._images_before(k) * self.world_size + self.rank * size, size

    def _size(self, k: int) -> StepSize:
        if self.sizes:
            return self.sizes[k % len(self.sizes)]
        side = image_size_at(self.experiment, k)
        return side, self.experiment.batch_size_for(side)

    def _images_before(self, k: int) -> int:
        if not self.sizes:
            return images_before_step(self.experiment, k)
        images = [size for _, size in self.sizes]
        repeats, rest = divmod(k, len(images))
        return repeats * sum(images) + sum(images[:rest])


def shuffled_rows(seed: int, count: int, *, start: int, size: int) -> Int[Tensor, " size"]:
    """Return `size` rows of the endless sequence of shuffled epochs of `count` rows, from position `start` on."""
    rows = []
    while size:
        epoch, row = divmod(start, count)
        rows.append(_epoch_permutation(seed, epoch, count)[row : row + size])
        start, size = start + len(rows[-1]), size - len(rows[-1])
    return torch.cat(rows)


@lru_cache(maxsize=2)
def _epoch_permutation(seed: int, epoch: int, count: int) -> Int[Tensor, " count"]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, ORDER, epoch)))
