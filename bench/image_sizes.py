"""Images of several sizes: which there are, which one a step draws, and how many images the steps before it have shown.

A step of small images has more of them, so that all steps have about as many pixels. The size depends on seed and step
alone: all ranks and all methods draw the same. Source: Mehta & Rastegari 2022, MobileViT (arXiv 2110.02178), section
3.2, and apple/corenet, `corenet/data/sampler/variable_batch_sampler.py`.

The released sampler draws every step anew. Here n steps in a row, counted from step 0, have each of n sizes once in a
drawn order: as likely, but a few timed steps have the sizes that a whole training has, and not those of their luck.
"""

from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.config import Experiment
from bench.environment.seeds import IMAGE_SIZE, seed_for

LEAST_DRAWN = 1024  # steps drawn at once; then twice as many, and so on
Integers = npt.NDArray[np.integer[Any]]


def multi_scale(least: int, most: int, scales: int, multiple: int, base: int) -> tuple[int, ...]:
    """Return sides in pixels from `least` to `most`, evenly spaced, and `base`, each rounded to a multiple.

    Those that fall together count once, as in the released code: 25 scales from 128 to 320 in multiples of 16 are 13.
    Source: apple/corenet, `corenet/data/sampler/utils.py`, and `make_divisible` of `corenet/utils/math_utils.py`.
    """
    spaced = np.linspace(least, most, scales).tolist()
    return tuple(sorted({_divisible(side, multiple) for side in (*spaced, float(base))}))


def image_size_at(experiment: Experiment, step: int) -> int:
    """Return the side in pixels of a step's images."""
    if not experiment.image_sizes:
        return experiment.image_size
    places, _ = _drawn(experiment, _length(step))
    return experiment.image_sizes[int(places[step])]


def images_before(experiment: Experiment, step: int) -> int:
    """Return how many images one device has seen before a step, counted from step 0."""
    if not experiment.image_sizes:
        return step * experiment.batch_size
    return int(_drawn(experiment, _length(step))[1][step])


def steps_for(experiment: Experiment, images: int) -> int:
    """Return after how many steps one device has seen about so many images: as near as whole steps come."""
    if not experiment.image_sizes:
        return round(images / experiment.batch_size)
    length = _length(int(images / experiment.mean_batch_size))
    while (before := _drawn(experiment, length)[1])[-1] < images:
        length *= 2
    step = int(np.searchsorted(before, images))
    return step if step == 0 or before[step] - images < images - before[step - 1] else step - 1


def first_of_each_size(experiment: Experiment, first: int) -> list[int]:
    """Return the first step of each size from a step on, the largest images first."""
    found: dict[int, int] = {}
    for step in count(first):
        found.setdefault(image_size_at(experiment, step), step)
        if len(found) == len(experiment.sides):
            break
    return [found[side] for side in sorted(found, reverse=True)]


def _divisible(side: float, multiple: int) -> int:
    rounded = max(multiple, int(side + multiple / 2) // multiple * multiple)
    return rounded if rounded >= 0.9 * side else rounded + multiple  # never a tenth smaller


def _length(step: int) -> int:
    """Return how many steps are drawn to reach this one: few lengths, so that few are kept."""
    return max(LEAST_DRAWN, 1 << step.bit_length())


@lru_cache(maxsize=8)
def _drawn(experiment: Experiment, steps: int) -> tuple[Integers, Integers]:
    """Return which of the sizes each step has, and the images before it; longer rows begin as shorter ones do."""
    sizes = len(experiment.image_sizes)
    raw = np.random.PCG64(seed_for(experiment.seed, IMAGE_SIZE)).random_raw((steps // sizes + 1) * sizes)
    places = raw.reshape(-1, sizes).argsort(axis=1).astype(np.uint16).ravel()[:steps]
    batches = np.array([experiment.batch_size_at(side) for side in experiment.image_sizes])
    return places, np.concatenate([[0], batches[places].cumsum()[:-1]])
