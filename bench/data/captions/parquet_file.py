"""Captions of a parquet file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.captions.batches import BYTES, KEY_COLUMNS, ROWS, Batch, caption_column, known_column

BUFFER = 2**20  # bytes of a column chunk in memory at once: a row group may be the whole file


def read_parquet(path: Path, column: str | None) -> Iterator[Batch]:
    """Read the caption column and the key column; without a key column the key is the row's number, from 0."""
    size = path.stat().st_size
    with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True) as file:
        names, total, before = file.schema_arrow.names, file.metadata.num_rows, 0
        name, key = caption_column(names, column), known_column(names, KEY_COLUMNS)
        kind = file.schema_arrow.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(kind) or pa.types.is_null(kind)):
            raise ValueError(f"column {name!r} holds {kind}, expected text")
        columns = [name] if key in (name, None) else [name, key]
        for batch in file.iter_batches(_rows_of_a_batch(file.metadata, name), columns=columns):
            rows = len(batch)
            keys = pa.array(np.arange(before, before + rows)) if key is None else _plain(batch.column(key))
            before += rows
            captions = _plain(batch.column(name)).cast(pa.binary())
            yield Batch(_texts(keys), captions, size * before // max(total, 1))
        if before != total:
            raise ValueError(f"the file is truncated: {before} of its {total} rows can be read")


def _rows_of_a_batch(metadata: pq.FileMetaData, column: str) -> int:
    """Return the number of rows per batch: fewer if captions are long."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(place) for group in groups for place in range(group.num_columns)]
    size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
    return int(max(1, min(ROWS, BYTES * metadata.num_rows // max(size, 1))))


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in (*tests, *binary))


def _plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _texts(keys: pa.Array) -> pa.StringArray:
    """Return keys as text; ValueError if they are nested."""
    if pa.types.is_nested(keys.type):
        raise ValueError(f"the key column holds {keys.type}, expected text or numbers")
    return keys.cast(pa.string())
