"""Lengths of captions: the pack's captions are cut or extended to the lengths of web captions.

A length is the number of tokens of CLIP's tokenizer, start and end token included. No torch here.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from statistics import NormalDist

from bench.experiment.fields import OWN_LENGTHS, PACK_DATA, SampleSettings

WEB = "web"
# Tokens of a web caption.
MEDIAN = 15
PERCENTILE_95 = 40
EDGE_TOKENS = 2  # start and end token
MIN_WEB_LENGTH = 3  # a web caption has text


def describe_captions_that_runs_read(inputs_of_runs: Iterable[SampleSettings]) -> str:
    """Say which captions runs read, for the notes beside their figures."""
    descriptions = map(_describe_captions_that_a_run_reads, inputs_of_runs)
    return "; ".join(dict.fromkeys(descriptions))


def _describe_captions_that_a_run_reads(inputs: SampleSettings) -> str:
    """Say which captions a run reads."""
    if inputs.data != PACK_DATA:
        field = "" if inputs.caption_fields is None else f" ({inputs.caption_fields})"
        return f"those of {inputs.data}{field}"
    if inputs.pack_caption_lengths == OWN_LENGTHS:
        return "those of the pack"
    lengths = f"median {MEDIAN}, 95th percentile {PERCENTILE_95} tokens"
    return f"words of the pack at the lengths of web captions ({lengths})"


def rewrite_captions_to_web_lengths(
    captions: Sequence[str], count_tokens: Callable[[str], int], seed: int
) -> tuple[str, ...]:
    """Cut or extend captions so that their lengths have the quantiles of web captions.

    Each caption keeps its words that fit, in order, and is extended by words of randomly drawn captions, so that labels
    and tokens are those of real words. The seed assigns lengths and draws words; equal seeds give equal captions.
    `count_tokens` returns the tokens of a text without start and end token.
    """
    draw = random.Random(seed)  # noqa: S311
    word_tokens = cache(count_tokens)
    # Control characters are remains of a wrong decoding, which the tokenizer mends by the words beside them.
    words = []
    for caption in captions:
        printable = [word for word in caption.split() if word.isprintable()]
        words.append([word for word in printable if word_tokens(word)])
    lengths = web_caption_length_quantiles(len(captions))
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


def web_caption_length_quantiles(count: int) -> list[int]:
    """Return `count` lengths of web captions at equally spaced probabilities, ascending; they are log-normal."""
    sigma = math.log(PERCENTILE_95 / MEDIAN) / NormalDist().inv_cdf(0.95)
    normal = NormalDist(math.log(MEDIAN), sigma)
    quantiles = [normal.inv_cdf((index + 0.5) / count) for index in range(count)]
    return [max(MIN_WEB_LENGTH, round(math.exp(quantile))) for quantile in quantiles]
