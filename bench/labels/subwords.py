"""Captions to subword tokens: OpenAI CLIP's byte-pair encoding, as open_clip ships it."""

from collections.abc import Iterable
from functools import cache

import numpy as np
from jaxtyping import Int
from open_clip.tokenizer import SimpleTokenizer

from bench.labels.vocabulary import read_vocabulary

ALL = "all"
LONGEST = 2048  # bytes of a caption that are read: no context holds more, and a word takes the square of its length
MOST_WORDS = 2**20  # that the tokenizer remembers, about 250 MB


@cache
def tokenizer() -> SimpleTokenizer:
    """Return the tokenizer; it remembers the words it has seen."""
    return SimpleTokenizer()


def encoded(caption: str) -> list[int]:
    """Return the tokenizer's ids of a caption's first 2 KiB, without start and end."""
    if len(tokenizer().cache) > MOST_WORDS:
        tokenizer.cache_clear()
    if 4 * len(caption) > LONGEST:
        caption = caption.encode(errors="replace")[:LONGEST].decode(errors="ignore")
    ids: list[int] = tokenizer().encode(caption)
    return ids


class SubwordIds:
    """Numbers for subwords: the tokenizer's own, or a vocabulary's that keeps only what occurs in a data set.

    The order of the tokenizer's ids is kept, so the end token has the largest number in both and open_clip's pooling
    (`argmax`) finds it. Number 0 pads.
    """

    def __init__(self, vocabulary: str) -> None:
        self.start, self.end = int(tokenizer().sot_token_id), int(tokenizer().eot_token_id)
        if vocabulary == ALL:
            kept = np.arange(self.end + 1)
        else:
            labels = map(int, read_vocabulary(vocabulary).keys)
            kept = np.array(sorted({0, *labels, self.start, self.end}))
        self.size = len(kept)
        self._number = np.full(self.end + 1, -1)
        self._number[kept] = np.arange(self.size)

    def encode(self, captions: Iterable[str]) -> list[list[int]]:
        """Return the captions' subwords without start and end; those outside the vocabulary are left out."""
        numbers = self._number
        found = map(encoded, captions)
        return [[number for number in numbers[ids].tolist() if number >= 0] if ids else [] for ids in found]

    @property
    def numbers(self) -> Int[np.ndarray, " ids"]:
        """Each of the tokenizer's ids as its number here; -1 outside the vocabulary."""
        return self._number

    @property
    def start_and_end(self) -> tuple[int, int]:
        """The numbers of the start and the end token."""
        return int(self._number[self.start]), int(self._number[self.end])
