"""Layouts of a batch's captions: groups of similar length, one caption per row, or rows of several captions."""

import math
import random
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from statistics import fmean, stdev
from typing import NamedTuple

MAX_LENGTHS = 8
DRAWN_BATCHES = 32
RESERVED_DEVIATIONS = 5  # a batch needs more rows than are reserved once in three million


def list_padding_widths(context_length: int) -> list[int]:
    """Return at most eight widths that captions are padded to, so that few shapes are compiled.

    They are the context and multiples of 8, or of less if the context is short: most captions are short.
    """
    step = min(8, math.ceil(context_length / MAX_LENGTHS))
    end = min(context_length, step * MAX_LENGTHS)
    return [*range(step, end, step), context_length]


def choose_caption_counts_by_bucket_width(
    widths: Sequence[int], counts: Sequence[int], max_buckets: int
) -> dict[int, int]:
    """Return the number of captions by bucket width, for the at most `max_buckets` that compute the fewest tokens.

    `counts[k]` captions need `widths[k]` tokens, widths ascending; a group is as wide as its longest caption needs. All
    divisions into groups are tried.
    """
    count_by_width = {width: count for width, count in zip(widths, counts, strict=True) if count}
    candidates = []
    for num_inner_ends in range(max_buckets):
        for inner_ends in combinations(range(1, len(count_by_width)), num_inner_ends):
            ends = (0, *inner_ends, len(count_by_width))
            groups = _count_captions_by_group_width(count_by_width, ends)
            num_tokens = sum(width * count for width, count in groups.items())
            candidates.append((num_tokens, ends, groups))
    _, _, best_groups = min(candidates)  # no two have equal ends
    return best_groups


def _count_captions_by_group_width(
    count_by_width: Mapping[int, int], ends: Sequence[int]
) -> dict[int, int]:
    """Return the number of captions by group width; a group has the widths between consecutive ends."""
    widths = list(count_by_width)
    counts = list(count_by_width.values())
    groups = {}
    for start, end in pairwise(ends):
        group_width = widths[end - 1]
        groups[group_width] = sum(counts[start:end])
    return groups


class CaptionRowLayout(NamedTuple):
    """Where captions begin in rows of a fixed width, and how many rows they need."""

    first_token_positions: list[int]  # of each caption, counted through all rows
    num_rows: int


def pack_into_rows(lengths: Sequence[int], width: int) -> CaptionRowLayout:
    """Put captions of these lengths in tokens one after the other into rows of `width` tokens.

    A caption lies in one row, of those with room the fullest; long ones come first (best-fit decreasing).
    """
    # First free position of each row, by the number of free ones.
    rows_by_free = [list[int]() for _ in range(width + 1)]
    starts = [0] * len(lengths)
    num_rows = 0
    longest_first = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    for caption in longest_first:
        length = lengths[caption]
        for free in range(length, width + 1):
            if rows_by_free[free]:
                start = rows_by_free[free].pop()
                break
        else:  # no row has room
            free = width
            start = num_rows * width
            num_rows += 1
        starts[caption] = start
        still_free = free - length
        rows_by_free[still_free].append(start + length)
    return CaptionRowLayout(starts, num_rows)


def estimate_required_packed_rows(lengths: Sequence[int], width: int, batch_size: int) -> int:
    """Return an estimate of the rows that suffice to pack any batch of a data set, but for one in millions.

    It is the mean over random batches plus five standard deviations, at most one row per caption: equal for equal
    `lengths`, which are those of the data set's captions.
    """
    draw = random.Random(batch_size)  # noqa: S311
    numbers = []
    for _ in range(DRAWN_BATCHES):
        batch = draw.choices(lengths, k=batch_size)
        numbers.append(pack_into_rows(batch, width).num_rows)
    required = fmean(numbers) + RESERVED_DEVIATIONS * stdev(numbers)
    return min(batch_size, math.ceil(required))
