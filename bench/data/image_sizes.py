"""Several image sizes: the side that a step draws, and the number of images before a step.

A step of smaller images has more of them, so that all steps have about as many pixels. The size depends only on seed
and step: all ranks and all methods draw the same. Source: Mehta & Rastegari 2022, MobileViT (arXiv 2110.02178), section
3.2, and apple/corenet, `corenet/data/sampler/variable_batch_sampler.py`.

The released sampler draws every step independently. Here n consecutive steps, counted from step 0, have each of n sizes
once in a random order: the probabilities are equal, but few timed steps have the sizes of a whole training.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.environment.seeds import IMAGE_SIZE, derive_seed
from bench.experiment.config import Experiment

MIN_DRAWN = 1024  # steps of the first draw; it is doubled as needed
Integers = npt.NDArray[np.integer[Any]]


def image_size_at(experiment: Experiment, step: int) -> int:
    """Return the side in pixels of a step's images."""
    if not experiment.image.image_sizes:
        return experiment.image.image_size
    places, _ = _draw_sizes(experiment, _num_steps_to_draw(step))
    return experiment.image.image_sizes[int(places[step])]


def images_before_step(experiment: Experiment, step: int) -> int:
    """Return the number of images on one device before a step, counted from step 0."""
    if not experiment.image.image_sizes:
        return step * experiment.training.batch_size
    return int(_draw_sizes(experiment, _num_steps_to_draw(step))[1][step])


def nearest_step_count(experiment: Experiment, images: int) -> int:
    """Return the number of steps whose images on one device are nearest to a number."""
    if not experiment.image.image_sizes:
        return round(images / experiment.training.batch_size)
    length = _num_steps_to_draw(int(images / experiment.mean_batch_size))
    while (before := _draw_sizes(experiment, length)[1])[-1] < images:
        length *= 2
    step = int(np.searchsorted(before, images))
    return step if step == 0 or before[step] - images < images - before[step - 1] else step - 1


def first_step_of_each_size(experiment: Experiment, first: int) -> list[int]:
    """Return the first step of each size at or after a step, the largest images first."""
    # They hold a whole draw, so all sizes.
    steps = range(first, first + 2 * len(experiment.image.all_image_sizes))
    first_steps = {image_size_at(experiment, step): step for step in reversed(steps)}
    return [first_steps[side] for side in sorted(first_steps, reverse=True)]


def _num_steps_to_draw(step: int) -> int:
    """Return the number of steps to draw to reach this one, one of few lengths for the cache."""
    return max(MIN_DRAWN, 1 << step.bit_length())


@lru_cache(maxsize=8)
def _draw_sizes(experiment: Experiment, steps: int) -> tuple[Integers, Integers]:
    """Return the index of each step's size and the images before it; longer draws begin with shorter ones."""
    sizes = len(experiment.image.image_sizes)
    raw = np.random.PCG64(derive_seed(experiment.seed, IMAGE_SIZE)).random_raw(
        (steps // sizes + 1) * sizes
    )
    places = raw.reshape(-1, sizes).argsort(axis=1).astype(np.uint16).ravel()[:steps]
    batches = np.array([experiment.batch_size_for(side) for side in experiment.image.image_sizes])
    return places, np.concatenate([[0], batches[places].cumsum()[:-1]])
