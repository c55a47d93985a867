"""Several image sizes: the side that a step draws, and the number of images before a step.

A step of smaller images has more of them, so that all steps have about as many pixels. The size depends only on seed
and step: all ranks and all methods draw the same. Source: Mehta & Rastegari 2022, MobileViT (arXiv 2110.02178), section
3.2, and apple/corenet, `corenet/data/sampler/variable_batch_sampler.py`.

The released sampler draws every step independently. Here n consecutive steps, counted from step 0, have each of n sizes
once in a random order: the probabilities are equal, but few timed steps have the sizes of a whole training.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from bench.environment.seeds import IMAGE_SIZE, derive_seed
from bench.experiment.config import Experiment


def image_size_at(experiment: Experiment, step: int) -> int:
    """Return the side in pixels of a step's images."""
    sides = experiment.image.image_sizes
    if not sides:
        return experiment.image.image_size
    block, place = divmod(step, len(sides))
    return _draw_block(experiment, block)[place]


def images_before_step(experiment: Experiment, step: int) -> int:
    """Return the number of images on one device before a step, counted from step 0."""
    sides = experiment.image.image_sizes
    if not sides:
        return step * experiment.training.batch_size
    block, place = divmod(step, len(sides))
    drawn_sides = _draw_block(experiment, block)[:place]
    images_of_block = _count_images(experiment, sides)
    return block * images_of_block + _count_images(experiment, drawn_sides)


def nearest_step_count(experiment: Experiment, images: int) -> int:
    """Return the number of steps whose images on one device are nearest to a number."""
    sides = experiment.image.image_sizes
    if not sides:
        return round(images / experiment.training.batch_size)
    full_blocks = images // _count_images(experiment, sides)
    first = full_blocks * len(sides)
    steps = range(first, first + len(sides) + 1)
    return min(steps, key=lambda step: abs(images_before_step(experiment, step) - images))


def first_step_of_each_size(experiment: Experiment, first: int) -> list[int]:
    """Return the first step of each size at or after a step, the largest images first."""
    num_sizes = len(experiment.image.all_image_sizes)
    first_steps = dict[int, int]()
    # These steps hold a whole block, so all sizes.
    for step in range(first, first + 2 * num_sizes):
        first_steps.setdefault(image_size_at(experiment, step), step)
    return [first_steps[side] for side in sorted(first_steps, reverse=True)]


def _count_images(experiment: Experiment, sides: Iterable[int]) -> int:
    """Return the number of images on one device in steps with images of these sides."""
    return sum(experiment.batch_size_for(side) for side in sides)


@lru_cache(maxsize=1024)
def _draw_block(experiment: Experiment, block: int) -> tuple[int, ...]:
    """Return the sides of the images of consecutive steps, one step of each size, in a random order."""
    sides = experiment.image.image_sizes
    num_sizes = len(sides)
    generator = np.random.PCG64(derive_seed(experiment.seed, IMAGE_SIZE))
    generator.advance(block * num_sizes)
    numbers = generator.random_raw(num_sizes)
    return tuple(sides[index] for index in numbers.argsort())
