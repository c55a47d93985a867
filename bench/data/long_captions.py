"""Captions with the length distribution of web captions, made of shorter ones."""

import math
import random
from collections.abc import Sequence

# Tokens of a web caption, start and end token included (CLIP's context is 77); standard normal 95th percentile.
MEDIAN, PERCENTILE_95, NORMAL_95 = 15, 40, 1.645


def match_web_lengths(captions: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    """Return as many captions of log-normal length: median 15, 95th percentile 40 tokens, start and end included.

    Captions are lists of subword ids. Each is extended by random captions and cut at its drawn length; equal seeds give
    equal captions.
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
