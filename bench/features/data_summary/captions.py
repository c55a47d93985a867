"""The captions of a random sample: how many, how long, in which scripts, repeated, and with how many nouns."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.console.progress import show_progress
from bench.data.caption_lengths import EDGE_TOKENS
from bench.data_source import Samples
from bench.features.data_summary.scripts import find_script
from bench.labels.labeller import decode_texts, get_rule
from bench.labels.subwords import encode_caption

NOUNS = "corenet"  # the labelling rule that finds nouns of WordNet


@dataclass(frozen=True, slots=True)
class CaptionFacts:
    """The captions of one field; a text without a visible character is no caption."""

    field: str
    numbers: npt.NDArray[np.int64]  # captions of each sample
    distinct: int  # different captions
    lengths: npt.NDArray[np.int64]  # tokens of each caption, start and end token included
    labels: npt.NDArray[np.int64]  # nouns of WordNet of each caption, each once
    scripts: Counter[str]

    @property
    def captions(self) -> int:
        """Number of captions."""
        return len(self.lengths)

    @property
    def empty(self) -> int:
        """Number of samples without a caption."""
        return int((self.numbers == 0).sum())


def inspect_captions(samples: Samples, rows: Sequence[int], fields: Sequence[str]) -> list[CaptionFacts]:
    """Read the captions of rows; the facts of each field are in their order."""
    read = [samples.texts(row) for row in show_progress(rows, len(rows), "reading captions", "samples")]
    return [_describe_field(field, [texts[at] for texts in read]) for at, field in enumerate(fields)]


def _describe_field(field: str, texts_of_samples: Sequence[Sequence[str]]) -> CaptionFacts:
    captions = [[text for text in texts if text.strip()] for texts in texts_of_samples]
    texts = [text for own in captions for text in own]
    lengths = [EDGE_TOKENS + len(encode_caption(text)) for text in texts]
    readable, _ = decode_texts(pa.array([text.encode(errors="replace") for text in texts], pa.binary()))
    _, offsets = get_rule(NOUNS).label(readable)
    return CaptionFacts(
        field,
        np.array([len(own) for own in captions], np.int64),
        len(set(texts)),
        np.array(lengths, np.int64),
        np.diff(offsets),
        Counter(map(find_script, texts)),
    )
