"""Captions of a file of any format, as batches in the file's order. Memory does not grow with the file's size."""

import csv
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.config import choose
from bench.data.captions.batches import BYTES, KEY_COLUMNS, ROWS, CaptionBatch, caption_column, known_column
from bench.data.captions.line_files import csv_rows, json_rows, read_rows, text_rows
from bench.data.captions.tar_file import read_tar

BUFFER = 2**20  # bytes of a column chunk in memory at once: a row group may be the whole file


def read_parquet(path: Path, column: str | None) -> Iterator[CaptionBatch]:
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
            yield CaptionBatch(_texts(keys), captions, size * before // max(total, 1))
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


LINE_WISE: dict[str, Callable[[Path, str | None], Iterator[CaptionBatch]]] = {
    ".csv": partial(read_rows, rows_of=partial(csv_rows, delimiter=",")),
    ".tsv": partial(read_rows, rows_of=partial(csv_rows, delimiter="\t")),
    ".jsonl": partial(read_rows, rows_of=json_rows),
    ".ndjson": partial(read_rows, rows_of=json_rows),
    ".txt": partial(read_rows, rows_of=text_rows),
    ".tar": read_tar,
}
READERS = {
    ".parquet": read_parquet,
    **LINE_WISE,
    **{f"{suffix}.gz": read for suffix, read in LINE_WISE.items()},
    ".tgz": read_tar,
}
UNREADABLE = (ValueError, OSError, EOFError, tarfile.TarError, zlib.error, csv.Error)


def read_captions(path: Path, column: str | None) -> Iterator[CaptionBatch]:
    """Read a file; ValueError names it and the reason why it cannot be read, also if that shows late."""
    with name_errors(path):
        if path.stat().st_size == 0:
            raise ValueError("the file is empty")
        yield from choose(suffix_of(path), READERS, "format of captions with the suffix")(path, column)


@contextmanager
def name_errors(path: Path) -> Iterator[None]:
    """Raise the errors of an unreadable file as a ValueError that names it."""
    try:
        yield
    except UNREADABLE as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise ValueError(f"{path}: {why.splitlines()[0]}") from None


def suffix_of(path: Path) -> str:
    """Return a file's suffix in lower case, including the one before `.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [".gz"] else suffixes[-1:])
