"""The largest batch that fits, by trying."""

from collections.abc import Callable

from bench.record import BYTES_A_PARAMETER, Memory


def first_guess(memory: Memory, batch_size: int, limit_bytes: int) -> int:
    """Guess the batch that fills a limit: what tensors hold beside the parameters' share grows with the batch.

    Allocators round up and keep what they were given, so the truth is mostly a little less. What was not counted is no
    guide: then it is the batch that was measured.
    """
    if memory.peak_tensor_bytes is None:
        return batch_size
    fixed = BYTES_A_PARAMETER * memory.trained_parameters
    an_image = max(1, memory.peak_tensor_bytes - fixed) / batch_size
    return max(1, int((limit_bytes - fixed) / an_image))


def largest_fitting(fits: Callable[[int], bool], guess: int, least: int, most: int) -> int | None:
    """Return the largest size in [least, most] that fits, to about 3 % of the guess; None where the least does not.

    Sizes are multiples of a power of two (8 from a guess of 256 on). `fits` is asked once a size; it should say yes up
    to some size and no beyond.
    """
    guess = min(max(guess, least), most)
    grain = 2 ** max(0, guess.bit_length() - 6)
    least, most = -(-least // grain), most // grain  # in grains from here on
    size, stride = max(guess // grain, least), 4
    low, high = least - 1, most + 1  # the largest that fits and the smallest that does not, as far as known
    while low + 1 < high:
        if fits(size * grain):
            low = size
        else:
            high = size
        if low < least or high > most:  # one side is still open: go there in growing strides
            size, stride = (max(size - stride, least) if low < least else min(size + stride, most)), 2 * stride
        else:
            size = (low + high) // 2
    return low * grain if low >= least else None
