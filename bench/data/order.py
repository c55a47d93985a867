"""The samples of batch k: consecutive positions in an endless sequence of shuffled epochs."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from bench.config import Experiment
from bench.environment.seeds import ORDER, seed_for
from bench.image_sizes import image_size_at, images_before


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a data set's samples on one of `ranks` processes: a pure function of these fields."""

    experiment: Experiment
    count: int  # samples of the data set
    rank: int = 0
    ranks: int = 1

    def rows(self, k: int) -> Int[Tensor, " batch"]:
        """Return the samples of batch k, equally many on every rank."""
        size = self.experiment.batch_size_at(self.image_size(k))
        return shuffled_rows(
            self.experiment.seed,
            self.count,
            first=images_before(self.experiment, k) * self.ranks + self.rank * size,
            size=size,
        )

    def image_size(self, k: int) -> int:
        """Return the side in pixels of batch k's images, equal on every rank."""
        return image_size_at(self.experiment, k)


def shuffled_rows(seed: int, count: int, *, first: int, size: int) -> Int[Tensor, " size"]:
    """Return `size` rows of the endless sequence of shuffled epochs of `count` rows, from position `first` on."""
    parts = []
    while size:
        epoch, place = divmod(first, count)
        parts.append(_shuffled(seed, epoch, count)[place : place + size])
        first, size = first + len(parts[-1]), size - len(parts[-1])
    return torch.cat(parts)


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, count: int) -> Int[Tensor, " count"]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_for(seed, ORDER, epoch)))
