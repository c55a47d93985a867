"""Layouts of a batch's captions: groups of similar length, one caption per row, or rows of several captions."""

import math
import random
from collections.abc import Sequence
from itertools import combinations, pairwise
from statistics import fmean, stdev

MAX_LENGTHS = 8
DRAWN_BATCHES = 32
RESERVED_DEVIATIONS = 5  # a batch needs more rows than are reserved once in three million


def allowed_lengths(context_length: int) -> list[int]:
    """Return at most eight widths that captions are padded to, so that few shapes are compiled.

    They are the context and multiples of 8, or of less if the context is short: most captions are short.
    """
    step = min(8, -(-context_length // MAX_LENGTHS))
    return [*range(step, min(context_length, step * MAX_LENGTHS), step), context_length]


def choose_padding_buckets(
    widths: Sequence[int], counts: Sequence[int], max_buckets: int
) -> dict[int, int]:
    """Return the number of captions by group width, such that the fewest tokens are computed.

    `counts[k]` captions need `widths[k]` tokens, widths ascending; a group is as wide as its longest caption needs. All
    divisions into groups are tried.
    """
    needed = [(width, count) for width, count in zip(widths, counts, strict=True) if count]
    best: tuple[int, tuple[int, ...]] | None = None
    for num_inner_ends in range(max_buckets):
        for inner_ends in combinations(range(1, len(needed)), num_inner_ends):
            ends = (0, *inner_ends, len(needed))
            tokens = sum(
                needed[end - 1][0] * _count(needed[start:end]) for start, end in pairwise(ends)
            )
            if best is None or (tokens, ends) < best:
                best = (tokens, ends)
    assert best is not None
    return {needed[end - 1][0]: _count(needed[start:end]) for start, end in pairwise(best[1])}


def _count(groups: Sequence[tuple[int, int]]) -> int:
    return sum(count for _, count in groups)


def pack_into_rows(lengths: Sequence[int], width: int) -> tuple[list[int], int]:
    """Put captions one after the other into rows of `width` tokens; return each one's first place, and the rows.

    Places count through the rows. A caption lies in one row, of those with room the fullest; long ones come first
    (best-fit decreasing).
    """
    # First free place of each row, by the number of free ones.
    rows_by_free = [list[int]() for _ in range(width + 1)]
    starts = [0] * len(lengths)
    rows = 0
    for caption in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[caption]
        free = next((free for free in range(length, width + 1) if rows_by_free[free]), None)
        if free is None:
            free = width
            starts[caption] = rows * width
            rows += 1
        else:
            starts[caption] = rows_by_free[free].pop()
        rows_by_free[free - length].append(starts[caption] + length)
    return starts, rows


def required_packed_rows(lengths: Sequence[int], width: int, batch_size: int) -> int:
    """Return a number of rows into which any batch of a data set can be packed, but for one in millions.

    It is the mean over random batches plus five standard deviations, at most one row per caption: equal for equal
    `lengths`, which are those of the data set's captions.
    """
    draw = random.Random(batch_size)  # noqa: S311
    batches = (draw.choices(lengths, k=batch_size) for _ in range(DRAWN_BATCHES))
    rows = [pack_into_rows(batch, width)[1] for batch in batches]
    return min(batch_size, math.ceil(fmean(rows) + RESERVED_DEVIATIONS * stdev(rows)))
