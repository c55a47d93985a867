"""Parquet files with the bytes of images, as Hugging Face's hub and `datasets` write them."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.data.captions.batches import iterate_values
from bench.data.captions.files import UNREADABLE, iterate_decoded_batches, open_parquet
from bench.data.parquet.pages import ColumnChunk, Page, iterate_rows, read_chunks, read_value
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexedSource
from bench.data.sources.columns import find_image_bytes, image_byte_columns, text_columns
from bench.data.sources.listing import iterate_files
from bench.environment.files import prefix_errors
from bench.experiment.config import list_names

SUFFIXES = (".parquet",)
KEPT_GROUPS = 2  # row groups that a process keeps in memory, of encodings of which no single value is read
NOTED_BYTES = 4 * 2**20  # that are read for one image
IN_ROW_GROUP = -1  # in place of a page's start
SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}")  # names of the hub's files
REMEDY = (
    "it loads faster if it is written again with pyarrow.parquet.write_table(TABLE, FILE, row_group_size=100, "
    "compression='none', use_dictionary=False)"
)


class ParquetSamples(IndexedSamples):
    """The usable rows of Parquet files."""

    places = (
        ("group", pa.int32()),
        ("start", pa.int64()),  # this and the next four: the page
        ("size", pa.int64()),
        ("length", pa.int64()),
        ("codec", pa.int8()),
        ("has_levels", pa.bool_()),
        ("number", pa.int32()),  # of the value in the page or row group
    )

    def read_image(self, path: Path, group: int, start: int, *place: Any) -> bytes:
        *page, number = place
        with prefix_errors(path, UNREADABLE):
            if start == IN_ROW_GROUP:
                return bytes(_read_row_group(path, group, path.stat().st_mtime_ns)[number].as_py() or b"")
            return read_value(path, Page(start, *page), number)


class ParquetImages(IndexedSource):
    """Rows of Parquet files."""

    name = "Parquet files of images"
    accepted = (
        "Parquet files, or their folder, with a column of images (bytes, or a struct of bytes and path as Hugging Face "
        "writes it) and one of captions"
    )
    samples = ParquetSamples

    def recognises(self, data: str) -> bool:
        path = next(iterate_files(data, SUFFIXES), None)
        return path is not None and has_image_bytes(path)

    def files(self, data: str) -> list[Path]:
        paths = sorted(iterate_files(data, SUFFIXES), key=Path.as_posix)
        splits = {match[1]: path.parent for path in paths if (match := SPLIT.fullmatch(path.stem))}
        if len(splits) > 1:
            split = next((split for split in splits if "train" in split), min(splits))
            glob = splits[split] / f"{split}-*.parquet"
            raise ValueError(f"{data} has the splits {list_names(sorted(splits))}: name one of them, as {str(glob)!r}")
        return paths

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        with open_parquet(path) as file:
            names, leaf = file.schema_arrow.names, find_image_bytes(file.schema_arrow)
            columns = builder.caption_columns(names, text_columns(file.schema_arrow))
            key = builder.key_column(names)
            read = [*dict.fromkeys([*columns, *filter(None, (key,))])]
            batches = iterate_decoded_batches(path, file, read) if read else ()
            rows: Any = (row for batch in batches for row in iterate_values(batch)) if read else repeat({})
            level = _column_index_and_max_level(file.schema, leaf)
            heaviest, number = 0, -1
            places = _iterate_places(path, read_chunks(path, level[0]), level[1], file.metadata)
            for number, ((place, cost), row) in enumerate(zip(places, rows, strict=False)):
                name = f"{path.stem}/{number}" if key is None else str(row[key])
                builder.add(name, {column: row[column] for column in columns}, place)
                heaviest = max(heaviest, cost)
            if number + 1 != file.metadata.num_rows:
                raise ValueError(
                    f"the file is truncated: {number + 1} of its {file.metadata.num_rows} rows can be read"
                )
        if heaviest > NOTED_BYTES:
            builder.notes.append(f"{path}: {heaviest / 2**20:,.0f} MiB are read for each image: {REMEDY}")


def has_image_bytes(path: Path) -> bool:
    """Return whether a file is a Parquet file with a column of bytes that are no captions."""
    try:
        return bool(image_byte_columns(pq.read_schema(path)))
    except UNREADABLE:
        return False


def _column_index_and_max_level(schema: Any, leaf: Sequence[str]) -> tuple[int, int]:
    """Return the number of a column, and the definition level of its values that are no nulls."""
    columns = [schema.column(number) for number in range(len(schema))]
    number = next(number for number, one in enumerate(columns) if one.path == ".".join(leaf))
    return number, columns[number].max_definition_level


def _iterate_places(
    path: Path, chunks: Sequence[ColumnChunk], max_level: int, metadata: Any
) -> Iterator[tuple[tuple[Any, ...] | None, int]]:
    """Yield each row's place, None for a null, and the bytes that are read for its image beside it."""
    for group, chunk in enumerate(chunks):
        first = 0
        for rows in iterate_rows(path, chunk, max_level):
            page, cost = rows.page, 0
            if page is not None:
                cost = page.bytes_per_value
            else:
                cost, page = metadata.row_group(group).total_byte_size, Page(IN_ROW_GROUP, 0, 0, 0, has_levels=False)
            for row, number in enumerate(rows.numbers, first):
                value = row if rows.page is None else number
                yield None if number < 0 else (group, *page, value), cost
            first += len(rows.numbers)


@lru_cache(KEPT_GROUPS)
def _read_row_group(path: Path, group: int, _modified: int) -> pa.ChunkedArray:
    """Read the images of a row group."""
    with open_parquet(path) as file:
        leaf = find_image_bytes(file.schema_arrow)
        column = file.read_row_group(group, columns=[".".join(leaf)]).column(0)
        return pc.struct_field(column, leaf[1]) if len(leaf) > 1 else column
