"""Batches of captions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa

from bench.data.captions.choice import TextsByField
from bench.data.captions.reader import REPLACED
from bench.data.parquet_files import MAX_BATCH_BYTES, MAX_BATCH_ROWS


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Captions of a file in its order; a sample without a caption has a null."""

    captions: pa.BinaryArray  # of Parquet files not yet validated as UTF-8
    num_replaced: int = 0  # captions that were not UTF-8, whose bytes were replaced


def collect_batches(texts_of_samples: Iterable[TextsByField]) -> Iterator[CaptionBatch]:
    """Collect the texts of samples into batches: a row for each text, a null for a sample without one."""
    captions = list[str | None]()
    num_characters = 0
    for texts in texts_of_samples:
        texts_of_sample = list(chain.from_iterable(texts))
        captions += texts_of_sample or [None]
        num_characters += sum(map(len, texts_of_sample))
        if len(captions) >= MAX_BATCH_ROWS or num_characters >= MAX_BATCH_BYTES:
            yield _make_batch(captions)
            captions = []
            num_characters = 0
    yield _make_batch(captions)


def _make_batch(captions: list[str | None]) -> CaptionBatch:
    num_replaced = sum(text is not None and REPLACED in text for text in captions)
    return CaptionBatch(pa.array(captions, pa.string()).cast(pa.binary()), num_replaced)
