"""Captions as long as the web's, made of shorter ones."""

import math
import random
from collections.abc import Sequence

# Tokens of a caption, start and end included: what captions of the web have (CLIP's context is 77).
MEDIAN, PERCENTILE_95, NORMAL_95 = 15, 40, 1.645


def lengthened(captions: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    """Return as many captions of a log-normal length with median 15 and 95th percentile 40, start and end included.

    Captions are lists of subwords. Each goes on with captions drawn at random until it is as long as it should be, and
    is cut there. Seeded: the same captions each time.
    """
    draw, spread = random.Random(seed), math.log(PERCENTILE_95 / MEDIAN) / NORMAL_95  # noqa: S311
    some = [caption for caption in captions if caption]
    longer = []
    for caption in captions:
        length = round(MEDIAN * math.exp(draw.gauss(0, spread))) - 2
        whole = list(caption)
        while len(whole) < length:
            whole += draw.choice(some)
        longer.append(whole[: max(1, length)])
    return longer
