"""The search for the largest batch that fits into memory."""

import math
from collections.abc import Callable

from bench.experiment.config import Experiment
from bench.records.record import BYTES_PER_PARAMETER, Memory

MIN_BATCH_SIZE, MAX_BATCH_SIZE = 2, 2**20  # images per step


def guess_batch_size(memory: Memory, batch_size: int, limit_bytes: int) -> int:
    """Estimate the batch that fills a limit: tensor memory beyond the parameters' share is proportional to the batch.

    Allocators round up and keep freed memory, so the largest batch is usually a little smaller. Without a tensor count
    the estimate is the measured batch.
    """
    if memory.peak_tensor_bytes is None:
        return batch_size
    fixed = BYTES_PER_PARAMETER * memory.trained_parameters
    bytes_per_image = max(1, memory.peak_tensor_bytes - fixed) / batch_size
    return max(1, int((limit_bytes - fixed) / bytes_per_image))


def find_largest_fitting(
    fits: Callable[[int], bool], guess: int, smallest: int, largest: int = MAX_BATCH_SIZE
) -> int | None:
    """Return the largest size in [smallest, largest] that fits, to about 3 % of the guess; None if none fits.

    Sizes are multiples of a power of two (8 from a guess of 256 on). `fits` is called once per size, and must be true
    up to some size and false beyond.
    """
    guess = min(max(guess, smallest), largest)
    grain = 2 ** max(0, guess.bit_length() - 6)
    smallest, largest = -(-smallest // grain), largest // grain  # in grains below
    size, stride = max(guess // grain, smallest), 4
    low, high = smallest - 1, largest + 1  # largest known to fit, smallest known not to
    while low + 1 < high:
        if fits(size * grain):
            low = size
        else:
            high = size
        if (
            low < smallest or high > largest
        ):  # one bound is unknown: search there in growing strides
            size, stride = (
                (max(size - stride, smallest) if low < smallest else min(size + stride, largest)),
                2 * stride,
            )
        else:
            size = (low + high) // 2
    return low * grain if low >= smallest else None


def smallest_batch_to_try(experiment: Experiment) -> int:
    """Return the smallest batch to try: it has two of the largest images, for contrastive losses need a negative."""
    return math.ceil(
        MIN_BATCH_SIZE * (max(experiment.image.all_image_sizes) / experiment.image.image_size) ** 2
    )
