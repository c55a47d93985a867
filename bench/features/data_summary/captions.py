"""The captions of a random sample: how many, how long, in which scripts, repeated, and with how many nouns."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.console.progress import show_progress
from bench.data.caption_lengths import EDGE_TOKENS
from bench.data.captions.choice import Texts, to_valid_text
from bench.interfaces.data_source import Samples
from bench.labels.labeller import get_rule
from bench.labels.subwords import encode_caption

NOUNS = "corenet"  # the labelling rule that finds nouns of WordNet
NO_LETTERS = "no letters"
HAN, KANA = "Han", "Kana"
# Where the first word of a letter's name (Unicode) is not the name of its script.
NAMES = {"CJK": HAN, "HIRAGANA": KANA, "KATAKANA": KANA, "KATAKANA-HIRAGANA": KANA}


@dataclass(frozen=True, slots=True)
class FieldCaptionFacts:
    """The captions of one field; a text without a visible character is no caption."""

    field: str
    numbers: npt.NDArray[np.int64]  # captions of each sample
    distinct: int  # different captions
    lengths: npt.NDArray[np.int64]  # tokens of each caption, start and end token included
    labels: npt.NDArray[np.int64]  # nouns of WordNet of each caption
    scripts: Counter[str]

    @property
    def num_captions(self) -> int:
        """Number of captions."""
        return len(self.lengths)

    @property
    def empty(self) -> int:
        """Number of samples without a caption."""
        return int((self.numbers == 0).sum())


def inspect_captions(samples: Samples, rows: Sequence[int], fields: Sequence[str]) -> list[FieldCaptionFacts]:
    """Read the captions of rows; the facts of each field are in their order."""
    read = [read_sample_captions(samples, row) for row in show_progress(rows, len(rows), "reading captions", "samples")]
    return [_describe_field(field, [texts[at] for texts in read]) for at, field in enumerate(fields)]


def read_sample_captions(samples: Samples, row: int) -> Texts:
    """Return the captions of a sample by field; bytes that are not UTF-8 are replaced."""
    return tuple(tuple(map(to_valid_text, texts)) for texts in samples.texts(row))


def _describe_field(field: str, texts_of_samples: Sequence[Sequence[str]]) -> FieldCaptionFacts:
    captions = [[text for text in texts if text.strip()] for texts in texts_of_samples]
    texts = [text for own in captions for text in own]
    lengths = [EDGE_TOKENS + len(encode_caption(text)) for text in texts]
    _, offsets = get_rule(NOUNS).label(pa.array(texts, pa.string()))
    return FieldCaptionFacts(
        field,
        np.array([len(own) for own in captions], np.int64),
        len(set(texts)),
        np.array(lengths, np.int64),
        np.diff(offsets),
        Counter(map(find_script, texts)),
    )


def find_script(text: str) -> str:
    """Return the script of most letters of a text; of Han beside kana it is kana, which Japanese alone has.

    A script is not a language: English and French are both Latin.
    """
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else NO_LETTERS
    # Wide and mathematical letters become plain ones.
    letters = Counter(filter(str.isalpha, unicodedata.normalize("NFKC", text)))
    scripts = Counter[str]()
    for letter, count in letters.items():
        scripts[_script_of_letter(letter)] += count
    if scripts[KANA]:
        scripts[KANA] += scripts.pop(HAN, 0)
    return max(scripts, key=lambda script: (scripts[script], script)) if letters else NO_LETTERS


@cache
def _script_of_letter(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return NAMES.get(name, name.capitalize())
