"""Rows of Parquet files, in memory that does not grow with the file."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
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
PAGE_BYTES = 2**20  # of a column chunk's page, as all writers make them
READ_ROWS = 4096  # of a file at once, which are then joined to batches; more are no faster
# A file whose values have more than MAX_DECODED_BYTES + MAX_EXPANSION * its size is refused.
MAX_DECODED_BYTES = 2**30
MAX_EXPANSION = 100
open_parquet = partial(
    pq.ParquetFile, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
)


class SequentialParquetReader:
    """An open Parquet file, read from start to end."""

    def __init__(self, path: Path, file: pq.ParquetFile) -> None:
        self.columns = require_distinct_columns(file.schema_arrow.names)
        self.text_columns = text_columns(file.schema_arrow)
        self._path = path
        self._file = file

    def has_one_text_per_row(self, column: str) -> bool:
        """Return whether a column has one text in each row."""
        kind = self._file.schema_arrow.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return kind in TEXT_TYPES

    def read_batches(self, columns: list[str]) -> Iterator[pa.Table]:
        """Iterate over rows by MAX_BATCH_ROWS and MAX_BATCH_BYTES."""
        return join_small_batches(iterate_memory_bounded_batches(self._path, self._file, columns))

    def read_rows(self, columns: list[str]) -> Iterator[dict[str, object]]:
        """Yield the rows with the given columns."""
        for table in self.read_batches(columns):
            yield from iterate_rows_as_dicts(table)


def iterate_memory_bounded_batches(
    path: Path, file: pq.ParquetFile, columns: list[str], max_rows: int = READ_ROWS
) -> Iterator[pa.RecordBatch]:
    """Yield decoded rows, few at once if one can be long: a value of a dictionary is stored once for all its rows.

    ValueError if rows are missing at the end.
    """
    file_bytes = path.stat().st_size
    fields = map(file.schema_arrow.field, columns)
    flat_columns = [field.name for field in fields if not pa.types.is_nested(field.type)]
    num_read = 0
    with open_parquet(path, metadata=file.metadata, read_dictionary=flat_columns) as encoded:
        for number in range(file.num_row_groups):
            # Not its columns: pyarrow aborts the process at damaged statistics.
            group = file.metadata.row_group(number)
            group_bytes = group.total_byte_size
            mean = group_bytes // max(group.num_rows, 1)
            longest = _bound_value_bytes_of_row_group(
                encoded, number, columns, group_bytes, file_bytes
            )
            row_bytes = max(longest, mean, 1)
            num_rows = min(max_rows, MAX_BATCH_ROWS, MAX_BATCH_BYTES // row_bytes)
            batches = file.iter_batches(max(num_rows, 1), row_groups=[number], columns=columns)
            for batch in batches:
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


def _bound_value_bytes_of_row_group(
    encoded: pq.ParquetFile,
    group_number: int,
    columns: Sequence[str],
    group_bytes: int,
    file_bytes: int,
) -> int:
    """Return the bytes of the longest value in the dictionaries of a row group, or a bound where they cannot be read.

    The group has `group_bytes` before compression, the file `file_bytes`.
    """
    try:
        batches = encoded.iter_batches(1, row_groups=[group_number], columns=columns)
        first = next(batches, None)
    except (OSError, pa.ArrowNotImplementedError):
        # The values are differences from the ones before: one is no longer than all differences of its page.
        if group_bytes > MAX_EXPANSION * file_bytes:
            return group_bytes
        return min(group_bytes, PAGE_BYTES)
    longest = 0
    if first is None:
        return longest
    for array in first.columns:
        if pa.types.is_dictionary(array.type):
            lengths = pc.binary_length(array.dictionary)
            longest = max(longest, pc.max(lengths).as_py() or 0)
    return longest


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
