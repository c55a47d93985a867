"""Rows of Parquet files, in memory that does not grow with the file."""

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.columns import (
    TEXT_TYPES,
    iterate_rows_as_dicts,
    require_distinct_columns,
    text_columns,
)

MAX_BATCH_ROWS = 65_536  # of a joined batch, which is also a row group of the labels
MAX_BATCH_BYTES = 16 * 2**20
BUFFER_BYTES = 2**20  # of a column chunk in memory at once: a row group may be the whole file
# Rows that are decoded at once, and then joined to batches: a small file may hold one long value for all its rows.
READ_ROWS = 128
# A file whose values have more than MAX_DECODED_BYTES + MAX_EXPANSION * its size is refused.
MAX_DECODED_BYTES = 2**30
MAX_EXPANSION = 100
open_parquet = partial(
    pq.ParquetFile, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
)


class SequentialParquetReader:
    """An open Parquet file, read from start to end."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self.columns = require_distinct_columns(file.schema_arrow.names)
        self.text_columns = text_columns(file.schema_arrow)
        self._file = file

    def has_one_text_per_row(self, column: str) -> bool:
        """Return whether a column has one text in each row."""
        kind = self._file.schema_arrow.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return kind in TEXT_TYPES

    def read_batches(self, columns: list[str]) -> Iterator[pa.Table]:
        """Iterate over rows by MAX_BATCH_ROWS and MAX_BATCH_BYTES."""
        return join_small_batches(iterate_memory_bounded_batches(self._file, columns))

    def read_rows(self, columns: list[str]) -> Iterator[dict[str, object]]:
        """Yield the rows with the given columns."""
        for table in self.read_batches(columns):
            yield from iterate_rows_as_dicts(table)


def iterate_memory_bounded_batches(
    file: pq.ParquetFile, columns: list[str], max_rows: int = READ_ROWS
) -> Iterator[pa.RecordBatch]:
    """Yield decoded rows, fewer at once if they are long; ValueError if rows are missing at the end."""
    num_read = 0
    for number in range(file.num_row_groups):
        # Not its columns: pyarrow aborts the process at damaged statistics.
        group = file.metadata.row_group(number)
        mean_row_bytes = max(1, group.total_byte_size // max(group.num_rows, 1))
        num_rows = max(1, min(max_rows, MAX_BATCH_ROWS, MAX_BATCH_BYTES // mean_row_bytes))
        for batch in file.iter_batches(num_rows, row_groups=[number], columns=columns):
            num_read += len(batch)
            yield _decode_dictionaries(batch)
    if num_read != file.metadata.num_rows:
        raise ValueError(
            f"the file is truncated: {num_read} of its {file.metadata.num_rows} rows can be read"
        )


def _decode_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for column in batch.columns:
        is_encoded = pa.types.is_dictionary(column.type)
        columns.append(column.dictionary_decode() if is_encoded else column)
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def join_small_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join small batches to tables of at most MAX_BATCH_ROWS rows and about MAX_BATCH_BYTES."""
    parts = list[pa.RecordBatch]()
    num_rows = 0
    num_bytes = 0
    for batch in batches:
        num_rows += len(batch)
        num_bytes += batch.nbytes
        is_over = num_rows > MAX_BATCH_ROWS or num_bytes > MAX_BATCH_BYTES
        if parts and is_over:
            yield pa.Table.from_batches(parts)
            parts = []
            num_rows = len(batch)
            num_bytes = batch.nbytes
        parts.append(batch)
    if parts:
        yield pa.Table.from_batches(parts)
