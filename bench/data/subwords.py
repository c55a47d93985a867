"""Captions to subword tokens: OpenAI CLIP's byte-pair encoding, as open_clip ships it."""

from collections.abc import Iterable
from functools import cache

import numpy as np
from jaxtyping import Int
from open_clip.tokenizer import SimpleTokenizer

from bench.data.vocabulary import read_vocabulary

ALL = "all"


@cache
def tokenizer() -> SimpleTokenizer:
    """Return the tokenizer; it remembers the words it has seen."""
    return SimpleTokenizer()


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
        encoded = (tokenizer().encode(caption) for caption in captions)
        return [[number for number in numbers[ids].tolist() if number >= 0] if ids else [] for ids in encoded]

    @property
    def numbers(self) -> Int[np.ndarray, " ids"]:
        """Each of the tokenizer's ids as its number here; -1 outside the vocabulary."""
        return self._number

    @property
    def start_and_end(self) -> tuple[int, int]:
        """The numbers of the start and the end token."""
        return int(self._number[self.start]), int(self._number[self.end])
