"""Batches of captions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from bench.data.captions.reader import REPLACED
from bench.data.parquet_files import MAX_BATCH_BYTES, MAX_BATCH_ROWS


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Rows of a file; a row without a caption has a null."""

    keys: pa.StringArray
    captions: pa.BinaryArray  # of Parquet files not yet validated as UTF-8
    num_replaced: int = 0  # captions that were not UTF-8, whose bytes were replaced


def collect_batches(rows: Iterable[tuple[str, Sequence[str]]]) -> Iterator[CaptionBatch]:
    """Collect keys and texts into batches: a row for each text, a null for a key without one."""
    keys = list[str]()
    captions = list[bytes | None]()
    num_bytes = 0
    num_replaced = 0

    def make_batch() -> CaptionBatch:
        key_array = pa.array(keys, pa.string())
        caption_array = pa.array(captions, pa.binary())
        return CaptionBatch(key_array, caption_array, num_replaced)

    for key, texts in rows:
        encoded = [text.encode() for text in texts]
        keys += [key] * max(1, len(encoded))
        captions += encoded or [None]
        num_bytes += sum(len(text) for text in encoded)
        num_replaced += sum(REPLACED in text for text in texts)
        if len(keys) >= MAX_BATCH_ROWS or num_bytes >= MAX_BATCH_BYTES:
            yield make_batch()
            keys = []
            captions = []
            num_bytes = 0
            num_replaced = 0
    yield make_batch()
