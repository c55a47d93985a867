"""Lengths of captions: the pack's captions are cut or extended to the lengths of web captions or of a file's captions.

A length is the number of tokens of CLIP's tokenizer, start and end token included. No torch here.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, islice
from pathlib import Path
from statistics import NormalDist

from bench.data.captions.files import read_captions
from bench.experiment.config import Experiment
from bench.experiment.fields import PACK_DATA, InputSettings

WEB = "web"
MEDIAN, PERCENTILE_95 = 15, 40  # tokens of a web caption
MAX_FILE_CAPTIONS = 2**14  # captions read of a file, the first ones
EDGE_TOKENS, MIN_WEB_LENGTH = 2, 3  # start and end token; a web caption has text


def describe_captions(experiments: Iterable[Experiment]) -> str:
    """Return which captions the runs of experiments read, for the notes beside their figures."""
    return "; ".join(
        dict.fromkeys(_describe_captions(experiment.input) for experiment in experiments)
    )


def _describe_captions(inputs: InputSettings) -> str:
    """Return which captions a run reads."""
    field = "" if inputs.caption is None else f" ({inputs.caption})"
    if inputs.data != PACK_DATA:
        return f"those of {inputs.data}{field}"
    if inputs.caption_lengths == PACK_DATA:
        return "those of the pack"
    if inputs.caption_lengths == WEB:
        lengths = f"web captions (median {MEDIAN}, 95th percentile {PERCENTILE_95} tokens)"
    else:
        lengths = f"the captions in {inputs.caption_lengths}{field}"
    return f"words of the pack at the lengths of {lengths}"


def match_lengths(
    captions: Sequence[str],
    distribution: str,
    count_tokens: Callable[[str], int],
    seed: int,
    caption: str | None = None,
) -> tuple[str, ...]:
    """Return as many captions whose lengths have the quantiles of a distribution: "web", or a file's chosen captions.

    Each caption keeps its words that fit, in order, and is extended by words of randomly drawn captions, so that labels
    and tokens are those of real words. The seed assigns lengths and draws words; equal seeds give equal captions.
    `count_tokens` returns the tokens of a text without start and end token. Raises ValueError as `read_first_captions`.
    """
    draw = random.Random(seed)  # noqa: S311
    word_tokens = cache(count_tokens)
    # Control characters are remains of a wrong decoding, which the tokenizer mends by the words beside them.
    words = [
        [word for word in caption.split() if word.isprintable() and word_tokens(word)]
        for caption in captions
    ]
    lengths = caption_length_quantiles(distribution, len(captions), count_tokens, caption)
    draw.shuffle(lengths)
    matched = []
    for source, length in zip(words, lengths, strict=True):
        kept = list[str]()
        missing = length - EDGE_TOKENS
        while missing:
            for word in source:
                if word_tokens(word) <= missing:
                    kept.append(word)
                    missing -= word_tokens(word)
            source = draw.choice(words)  # noqa: PLW2901
        matched.append(" ".join(kept))
    return tuple(matched)


def caption_length_quantiles(
    distribution: str, count: int, count_tokens: Callable[[str], int], caption: str | None = None
) -> list[int]:
    """Return `count` lengths at equally spaced probabilities of a distribution, ascending; "web" is log-normal."""
    shares = [(place + 0.5) / count for place in range(count)]
    if distribution == WEB:
        normal = NormalDist(
            math.log(MEDIAN), math.log(PERCENTILE_95 / MEDIAN) / NormalDist().inv_cdf(0.95)
        )
        return [max(MIN_WEB_LENGTH, round(math.exp(normal.inv_cdf(share)))) for share in shares]
    lengths = sorted(
        EDGE_TOKENS + count_tokens(text) for text in read_first_captions(distribution, caption)
    )
    return [lengths[int(share * len(lengths))] for share in shares]


def read_first_captions(file: str, caption: str | None = None) -> list[str]:
    """Return a file's first captions, of several texts one drawn; ValueError if it is no file that `label` reads."""
    if not Path(file).is_file():
        raise ValueError(
            f"caption lengths are {PACK_DATA}, {WEB} or those of a file of captions, got {file!r}"
        )
    rows = chain.from_iterable(
        batch.captions.to_pylist() for batch in read_captions(Path(file), caption, "drawn")
    )
    texts = [
        row.decode(errors="replace") for row in islice(rows, MAX_FILE_CAPTIONS) if row is not None
    ]
    if not texts:
        raise ValueError(f"{file}: no captions")
    return texts
