"""The captions of a random sample: how many, how long, in which scripts, repeated, and with how many nouns."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.data.caption_lengths import EDGE_TOKENS
from bench.labels.labeller import get_rule
from bench.labels.subwords import encode_caption

NOUN_RULE = "corenet"  # the labelling rule that finds nouns of WordNet
NO_LETTERS = "no letters"
# Where the first word of a letter's name (Unicode) is not the name of its script.
SCRIPTS = {"Cjk": "Han", "Hiragana": "Kana", "Katakana": "Kana", "Katakana-hiragana": "Kana"}


@dataclass(frozen=True, slots=True)
class FieldCaptions:
    """The captions of one field; a text without a visible character is no caption."""

    field: str
    per_sample: npt.NDArray[np.int64]  # number of captions of each sample
    texts: Sequence[str]
    tokens: npt.NDArray[np.int64]  # of each caption, start and end token included
    nouns: npt.NDArray[np.int64]  # of each caption

    @property
    def num_repeated(self) -> int:
        """Number of captions that are equal to an earlier one."""
        return len(self.texts) - len(set(self.texts))


def inspect_captions(field: str, texts_of_samples: Sequence[Sequence[str]]) -> FieldCaptions:
    """Count the tokens and nouns of the captions of a field."""
    captions = [[text for text in texts if text.strip()] for texts in texts_of_samples]
    texts = [text for sample in captions for text in sample]
    tokens = [EDGE_TOKENS + len(encode_caption(text)) for text in texts]
    labels = get_rule(NOUN_RULE).label(pa.array(texts, pa.string()))
    per_sample = np.array([len(sample) for sample in captions], np.int64)
    num_nouns = np.diff(labels.offsets)
    return FieldCaptions(field, per_sample, texts, np.array(tokens, np.int64), num_nouns)


def find_script(text: str) -> str:
    """Return the script of most letters of a text; Han beside kana counts as kana, because Japanese alone has it.

    A script is not a language: English and French are both Latin.
    """
    scripts = Counter[str]()
    for letter in unicodedata.normalize(
        "NFKC", text
    ):  # wide and mathematical letters become plain ones
        if letter.isalpha():
            name = unicodedata.name(letter, "UNKNOWN").split()[0].capitalize()
            scripts[SCRIPTS.get(name, name)] += 1
    if scripts["Kana"]:
        scripts["Kana"] += scripts.pop("Han", 0)
    return (
        max(scripts, key=lambda script: (scripts[script], script))
        if scripts.total()
        else NO_LETTERS
    )
