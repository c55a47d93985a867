"""Batches of captions: arrays of bytes with a null for each sample without a caption."""

from collections.abc import Iterable, Iterator
from itertools import chain

import pyarrow as pa

from bench.data.captions.choice import TextsByField
from bench.data.parquet_files import MAX_BATCH_BYTES, MAX_BATCH_ROWS


def collect_caption_batches(texts_of_samples: Iterable[TextsByField]) -> Iterator[pa.BinaryArray]:
    """Collect the texts of samples into batches: a row for each text, a null for a sample without one."""
    captions = list[str | None]()
    num_characters = 0
    for texts in texts_of_samples:
        texts_of_sample = list(chain.from_iterable(texts))
        captions += texts_of_sample or [None]
        num_characters += sum(map(len, texts_of_sample))
        if len(captions) >= MAX_BATCH_ROWS or num_characters >= MAX_BATCH_BYTES:
            yield pa.array(captions, pa.string()).cast(pa.binary())
            captions = []
            num_characters = 0
    yield pa.array(captions, pa.string()).cast(pa.binary())
