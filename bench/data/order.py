"""The samples of batch k: consecutive positions in an endless sequence of shuffled epochs."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from bench.data.image_sizes import BatchShapeSchedule
from bench.environment.seeds import AUGMENTATION, ORDER, derive_seed

Numbers = npt.NDArray[np.uint64]
ROUNDS = 6  # of the Feistel network
# Of SplitMix64's mixing function.
FIRST_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)
SECOND_MULTIPLIER = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """The order of a data set's samples on one of `world_size` processes: a pure function of these fields."""

    seed: int
    num_samples: int  # samples of the data set
    batch_shapes: BatchShapeSchedule
    rank: int = 0
    world_size: int = 1
    # For each sample the one that is shown in its place; None: itself.
    shown: Int[Tensor, " samples"] | None = None

    def batch_rows(self, k: int) -> Int[Tensor, " batch"]:
        """Return the samples of batch k, equally many on every rank, in a tensor that must not be changed."""
        positions = self._positions(k)
        rows = rows_of_shuffled_epochs(
            self.seed, self.num_samples, start=positions.start, size=len(positions)
        )
        return rows if self.shown is None else self.shown[rows]

    def epoch_of_each_sample(self, k: int) -> list[int]:
        """Return the epoch of each sample of batch k, from 0."""
        return [position // self.num_samples for position in self._positions(k)]

    def augmentation_generator(self, k: int) -> torch.Generator:
        """Return the generator of batch k's crops, flips and colours."""
        seed = derive_seed(self.seed, AUGMENTATION, self.rank, k)
        return torch.Generator().manual_seed(seed)

    def image_side(self, k: int) -> int:
        """Return the side in pixels of batch k's images, equal on every rank."""
        return self.batch_shapes.shape_at(k).side

    def _positions(self, k: int) -> range:
        """Return the positions of batch k's samples in the endless sequence of epochs."""
        num_images = self.batch_shapes.shape_at(k).num_images
        start_of_all_ranks = self.batch_shapes.images_per_device_before(k) * self.world_size
        start = start_of_all_ranks + self.rank * num_images
        return range(start, start + num_images)


@lru_cache(maxsize=2)  # a batch's target and its images ask for the same rows
def rows_of_shuffled_epochs(
    seed: int, num_rows: int, *, start: int, size: int
) -> Int[Tensor, " size"]:
    """Return `size` rows of the endless sequence of shuffled epochs of `num_rows` rows, from position `start` on.

    The tensor must not be changed: callers share it.
    """
    rows = []
    while size:
        epoch, position = divmod(start, num_rows)
        length = min(size, num_rows - position)
        positions = np.arange(position, position + length, dtype=np.uint64)
        key = derive_seed(seed, ORDER, epoch)
        rows.append(permute(positions, num_rows, key))
        start += length
        size -= length
    joined = np.concatenate(rows).astype(np.int64)
    return torch.from_numpy(joined)


def permute(values: Numbers, count: int, key: int) -> Numbers:
    """Return the positions of values from 0 to `count` - 1 in the random permutation of `key`, which is not made.

    It is a Feistel network on pairs of digits (left, right) with left below ceil(sqrt(count)), so that memory depends
    on the number of values alone. A result above `count` - 1 is permuted again until it is below (cycle walking).
    Source: Black & Rogaway 2002, Ciphers with Arbitrary Finite Domains, section 5.
    """
    left_base = math.isqrt(count - 1) + 1
    right_base = (count - 1) // left_base + 1
    bases = (np.uint64(left_base), np.uint64(right_base))
    sequence = np.random.SeedSequence(key)
    round_keys = sequence.generate_state(ROUNDS, np.uint64).astype(np.uint64)
    result = _permute_by_feistel_network(values, *bases, round_keys)
    outside = np.flatnonzero(result >= count)
    while len(outside):
        result[outside] = _permute_by_feistel_network(result[outside], *bases, round_keys)
        outside = outside[result[outside] >= count]
    return result


def _permute_by_feistel_network(
    values: Numbers, left_base: np.uint64, right_base: np.uint64, round_keys: Numbers
) -> Numbers:
    """Permute the numbers below the product of two bases by a Feistel network."""
    left, right = np.divmod(values, right_base)
    for number, key in enumerate(round_keys):
        if number % 2:
            shift = _mix_by_splitmix64(left ^ key) % right_base
            right = (right + shift) % right_base
        else:
            shift = _mix_by_splitmix64(right ^ key) % left_base
            left = (left + shift) % left_base
    return left * right_base + right


def _mix_by_splitmix64(values: Numbers) -> Numbers:
    """Return a hash of 64-bit numbers: the mixing function of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * FIRST_MULTIPLIER
    values = (values ^ (values >> np.uint64(27))) * SECOND_MULTIPLIER
    return values ^ (values >> np.uint64(31))
