"""The captions of Parquet files, in memory that does not grow with the file."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.data.captions.batches import (
    KEY_COLUMNS,
    MAX_BATCH_BYTES,
    MAX_BATCH_ROWS,
    TEXT_TYPES,
    CaptionBatch,
    CaptionRow,
    ReadTexts,
    collect_batches,
    find_column,
    find_columns,
    iterate_values,
)
from bench.data.captions.fields import CaptionFieldReader

BUFFER_BYTES = 2**20  # of a column chunk in memory at once: a row group may be the whole file
PAGE_BYTES = 2**20  # of a column chunk's page, as all writers make them
READ_ROWS = 4096  # of a file at once, which are then joined to batches; more are no faster
# Of what a file holds: the sum of bytes and of times its size.
MAX_DECODED_BYTES, MAX_EXPANSION = (
    2**30,
    100,
)
open_parquet = partial(
    pq.ParquetFile, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
)


def read_parquet(path: Path, reader: CaptionFieldReader, read: ReadTexts) -> Iterator[CaptionBatch]:
    """Read the caption columns and the key column; without a key column the key is the row's number, from 0."""
    with open_parquet(path) as file:
        schema = file.schema_arrow
        columns = find_columns(schema.names, reader.choice.names)
        kinds = [_require_text(name, schema.field(name).type) for name in columns]
        tables = _iterate_tables(path, file, columns)
        bytes_per_row = path.stat().st_size / max(file.metadata.num_rows, 1)
        num_read = 0
        if len(reader.choice.fields) == 1 and not pa.types.is_nested(
            kinds[0]
        ):  # a text a row, which stays in Arrow
            for keys, table in tables:
                num_read += len(table)
                captions = table[columns[0]].combine_chunks().cast(pa.binary())
                reader.found.count(reader.choice.names[0], len(captions) - captions.null_count)
                yield CaptionBatch(keys, captions, int(bytes_per_row * num_read))
            return

        def iterate_rows() -> Iterator[CaptionRow]:
            nonlocal num_read
            for keys, table in tables:
                num_read += len(table)
                for key, values in zip(keys.to_pylist(), iterate_values(table), strict=True):
                    yield key, values, ""

        yield from collect_batches(iterate_rows(), read, lambda: int(bytes_per_row * num_read))


def _iterate_tables(
    path: Path, file: pq.ParquetFile, columns: list[str]
) -> Iterator[tuple[pa.StringArray, pa.Table]]:
    """Yield the keys and the columns of rows; ValueError if rows are missing at the end."""
    key = find_column(file.schema_arrow.names, KEY_COLUMNS)
    if key is not None and pa.types.is_nested(file.schema_arrow.field(key).type):
        raise ValueError(
            f"the key column holds {file.schema_arrow.field(key).type}, expected text or numbers"
        )
    names = columns if key is None or key in columns else [*columns, key]
    num_read = 0
    for table in join_batches(iterate_decoded_batches(path, file, names)):
        numbers = range(num_read, num_read + len(table))
        keys = pa.array(numbers) if key is None else table[key].combine_chunks()
        yield keys.cast(pa.string()), table.select(columns)
        num_read += len(table)
    if num_read != file.metadata.num_rows:
        raise ValueError(
            f"the file is truncated: {num_read} of its {file.metadata.num_rows} rows can be read"
        )


def _require_text(name: str, kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values; ValueError unless it is text, lists of text, or objects."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not (inner in TEXT_TYPES or pa.types.is_null(inner) or pa.types.is_struct(inner)):
        raise ValueError(f"column {name!r} holds {kind}, expected text")
    return kind


def iterate_decoded_batches(
    path: Path, file: pq.ParquetFile, columns: list[str], most_rows: int = READ_ROWS
) -> Iterator[pa.RecordBatch]:
    """Yield decoded rows, few at once if one can be long: a value of a dictionary is stored once for all its rows."""
    size = path.stat().st_size
    types = {column: file.schema_arrow.field(column).type for column in columns}
    are_dictionaries = all(map(pa.types.is_dictionary, types.values()))
    flat = [column for column, kind in types.items() if not pa.types.is_nested(kind)]
    with open_parquet(path, metadata=file.metadata, read_dictionary=flat) as encoded:
        for number in range(file.num_row_groups):
            # Not its columns: pyarrow aborts the process at damaged statistics.
            group = file.metadata.row_group(number)
            total = group.total_byte_size
            longest = max(
                _longest_value(encoded, number, columns, total, size),
                total // max(group.num_rows, 1),
                1,
            )
            rows = max(1, min(most_rows, MAX_BATCH_ROWS, MAX_BATCH_BYTES // longest))
            # Each batch of dictionaries copies them.
            step = MAX_BATCH_ROWS if are_dictionaries else rows
            for batch in file.iter_batches(step, row_groups=[number], columns=columns):
                for first in range(0, len(batch), rows):
                    yield _decode_dictionaries(batch.slice(first, rows))


def _decode_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _longest_value(
    encoded: pq.ParquetFile, group: int, columns: Sequence[str], total: int, size: int
) -> int:
    """Return the bytes of the longest value in the dictionaries of a row group, or a bound where they cannot be read.

    The group has `total` bytes before compression, the file `size`.
    """
    try:
        first = next(encoded.iter_batches(1, row_groups=[group], columns=columns), None)
    except (OSError, pa.ArrowNotImplementedError):
        # The values are differences from the ones before: one is no longer than all differences of its page.
        return total if total > MAX_EXPANSION * size else min(total, PAGE_BYTES)
    longest = 0
    for array in [] if first is None else first.columns:
        if pa.types.is_dictionary(array.type):
            longest = max(longest, pc.max(pc.binary_length(array.dictionary)).as_py() or 0)
    return longest


def join_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join small batches into those of the labels."""
    parts = list[pa.RecordBatch]()
    rows = num_bytes = 0
    for batch in batches:
        if parts and (
            rows + len(batch) > MAX_BATCH_ROWS or num_bytes + batch.nbytes > MAX_BATCH_BYTES
        ):
            yield pa.Table.from_batches(parts)
            parts = []
            rows = num_bytes = 0
        parts.append(batch)
        rows += len(batch)
        num_bytes += batch.nbytes
    if parts:
        yield pa.Table.from_batches(parts)
