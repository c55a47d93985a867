"""The shape of every batch: the side of its images, which may vary, and their number.

A batch of smaller images has more of them, so that all have about as many pixels. The shape depends only on seed and
step: all ranks and all methods draw the same. Source: Mehta & Rastegari 2022, MobileViT (arXiv 2110.02178), section
3.2, and apple/corenet, `corenet/data/sampler/variable_batch_sampler.py`.

The released sampler draws every step independently. Here n consecutive steps, counted from step 0, have each of n sizes
once in a random order: the probabilities are equal, but few timed steps have the sizes of a whole training.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bench.environment.seeds import IMAGE_SIZE, derive_seed
from bench.experiment.config import Experiment


class BatchShape(NamedTuple):
    """The side and the number of the images of a step's batch on one device."""

    side: int  # of the images, in pixels
    num_images: int  # on one device


BatchShapes = tuple[BatchShape, ...]


@dataclass(frozen=True, slots=True)
class BatchShapeSchedule:
    """The shapes of the batches of all steps: of n shapes, each block of n consecutive steps has each once."""

    sizes: BatchShapes
    shuffle_seed: int | None = None  # draws the order of each block; None: the order of `sizes`

    def shape_at(self, step: int) -> BatchShape:
        """Return the shape of the batch of a step, counted from 0."""
        block, index = divmod(step, len(self.sizes))
        return self._shapes_of_block(block)[index]

    def images_per_device_before(self, step: int) -> int:
        """Return how many images one device has seen before a step, counted from step 0."""
        block, index = divmod(step, len(self.sizes))
        sizes_before = self._shapes_of_block(block)[:index]
        return block * _count_images_per_device(self.sizes) + _count_images_per_device(sizes_before)

    def nearest_step_count(self, images_per_device: int) -> int:
        """Return the number of steps whose images on one device are nearest to `images_per_device`; it may be 0."""
        images_of_block = _count_images_per_device(self.sizes)
        if len(self.sizes) == 1:
            return round(images_per_device / images_of_block)
        num_sizes = len(self.sizes)
        first = images_per_device // images_of_block * num_sizes
        steps = range(first, first + num_sizes + 1)
        return min(
            steps, key=lambda step: abs(self.images_per_device_before(step) - images_per_device)
        )

    def first_step_of_each_image_side(self, first_step: int) -> list[int]:
        """Return the first step from `first_step` on at each side of images, the largest images first."""
        step_by_side = dict[int, int]()
        # These steps hold a whole block, so all sizes.
        last_step = first_step + 2 * len(self.sizes)
        for step in range(first_step, last_step):
            step_by_side.setdefault(self.shape_at(step).side, step)
        return [step_by_side[side] for side in sorted(step_by_side, reverse=True)]

    def _shapes_of_block(self, block: int) -> BatchShapes:
        """Return the shapes of a block of steps, in their order."""
        if self.shuffle_seed is None:
            return self.sizes
        return _shuffle_shapes_of_block(self.sizes, self.shuffle_seed, block)


def make_batch_shape_schedule(experiment: Experiment) -> BatchShapeSchedule:
    """Return the shapes of an experiment's batches, equal on all ranks."""
    sides = experiment.image.all_image_sizes
    sizes = tuple(BatchShape(side, experiment.device_batch_size_at(side)) for side in sides)
    return BatchShapeSchedule(sizes, experiment.seed if len(sides) > 1 else None)


def _count_images_per_device(sizes: BatchShapes) -> int:
    return sum(size.num_images for size in sizes)


@lru_cache(maxsize=1024)
def _shuffle_shapes_of_block(sizes: BatchShapes, seed: int, block: int) -> BatchShapes:
    """Return the shapes in the random order of a block of steps."""
    generator = np.random.PCG64(derive_seed(seed, IMAGE_SIZE))
    generator.advance(block * len(sizes))
    numbers = generator.random_raw(len(sizes))
    return tuple(sizes[index] for index in numbers.argsort())
