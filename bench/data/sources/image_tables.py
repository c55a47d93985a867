"""Tables that name image files and hold their captions: csv, tsv, JSON lines, JSON (COCO's, too) and Parquet."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from bench.config import list_names
from bench.data.captions.batches import (
    MAX_LINE_BYTES,
    MISCOUNTED,
    NO_CAPTION,
    NOT_JSON,
    decode_json_object,
    find_column,
    iterate_values,
    split_lines,
)
from bench.data.captions.files import UNREADABLE, decode_columns, digest_file_samples, open_parquet
from bench.data.sample_index import IndexBuilder, IndexedSource
from bench.data.sources.columns import PATH_COLUMNS, image_byte_columns
from bench.data.sources.image_files import SHOWN_FILES, FileSamples, find_image_file
from bench.data.sources.listing import is_visible, iterate_files
from bench.environment.files import read_limited

Row = Mapping[str, Any] | str  # the columns of a row, or what is wrong with it
CHECKED_TABLES = 20  # the first ones of a folder: there may be thousands, of other things
TRIED_ROWS = 64  # whose columns and whose images are looked for
GROUPED_IMAGES = 2**20  # that are in memory at once, with the captions of their rows


class ImagePathTables(IndexedSource):
    """Rows of a table; rows of one image are its captions."""

    name = "tables of image files"
    accepted = (
        "a csv, tsv, jsonl, json (also COCO's captions) or Parquet file with a column of image paths (such as image or "
        "file_name) and one of captions, or the folder with this file"
    )
    samples = FileSamples

    def recognises(self, data: str) -> bool:
        return any(map(has_image_paths, possible_tables(data)[:CHECKED_TABLES]))

    def files(self, data: str) -> list[Path]:
        tables = [*filter(has_image_paths, possible_tables(data))]
        if Path(data).is_dir() and len(tables) > 1:
            raise ValueError(f"{data} has {len(tables)} tables of images ({list_names([*map(str, tables)])}): name one")
        return tables

    def identity(self, path: Path) -> str:
        folder = _find_folder(path)
        return f"{digest_file_samples(path)} {folder} {folder.stat().st_mtime_ns}"

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        names = column_names(path)
        image, key = find_path_column(names), builder.key_column(names)
        assert image is not None
        texts = [name for name in names if name not in (image, key)]
        columns, folder, lost = builder.caption_columns(names, texts), _find_folder(path), list[str]()
        read = [*dict.fromkeys([*columns, *filter(None, [key])])]
        images = dict[str, list[dict[str, Any]]]()

        def add_images() -> None:
            for name, rows in images.items():
                found = find_image_file(folder, name)
                place: tuple[str] | str
                if isinstance(found, tuple):
                    place, size = builder.kind.flaw([name.lower()]) or (found[0],), found[1]
                else:
                    place, size = found, 0
                    lost.append(name)
                values: dict[str, Any] = {column: rows[0][column] for column in columns if column in rows[0]}
                if rows[1:]:
                    values = {column: _join_captions(rows, column) for column in columns}
                builder.add(name if key is None else str(rows[0].get(key)), values, place, size)
            images.clear()

        for row in iterate_rows(path, [*dict.fromkeys([image, *read])]):
            if isinstance(row, str):
                builder.add("", row, row)
                continue
            if not row.get(image):
                builder.add("", NO_CAPTION, None)
                continue
            if (name := str(row[image])) not in images and len(images) == GROUPED_IMAGES:
                add_images()
                builder.keys_remedy = f"sort the rows by {image}"
            images.setdefault(name, []).append({column: row[column] for column in read if column in row})
        add_images()
        if lost:
            there = f"{path}: {len(lost):,} images are not below {folder}, such as {list_names(lost[:SHOWN_FILES])}"
            builder.notes.append(f"{there}: paths are relative to this folder, or absolute")


def possible_tables(data: str) -> list[Path]:
    """Return the files that may be tables of images."""
    paths = iterate_files(data, SUFFIXES)
    if Path(data).is_dir():
        folders = [Path(data).absolute(), *_subfolders(Path(data).absolute())]
        paths = (path for folder in folders for path in folder.iterdir() if is_visible(path.name, SUFFIXES))
    return sorted(filter(Path.is_file, paths), key=Path.as_posix)


def has_image_paths(path: Path) -> bool:
    """Return whether a table can be read, has a column of image paths, and one of its first images is there."""
    try:
        folder, names = _find_folder(path), first_images(path)
    except UNREADABLE:
        return False
    return any(isinstance(find_image_file(folder, name), tuple) for name in names)


def first_images(path: Path) -> list[str]:
    """Return the first image paths of a table; none without a column of them."""
    if (image := find_path_column(column_names(path))) is None:
        return []
    rows = islice(iterate_rows(path, [image]), TRIED_ROWS)
    return [str(row[image]) for row in rows if isinstance(row, Mapping) and row.get(image)]


def find_path_column(names: list[str]) -> str | None:
    """Return the column of image paths, None if no name is known."""
    return find_column(names, PATH_COLUMNS)


def column_names(path: Path) -> list[str]:
    """Return the names of the columns; ValueError or OSError if the file cannot be read."""
    if path.suffix.lower() == ".parquet":
        schema = pq.read_schema(path)
        return [] if image_byte_columns(schema) else list(schema.names)
    rows = [row for row in islice(iterate_rows(path, []), TRIED_ROWS) if isinstance(row, Mapping)]
    return [*dict.fromkeys(name for row in rows for name in row)]


def iterate_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    """Yield the rows of a table; of a Parquet file only the given columns."""
    return READERS[path.suffix.lower()](path, columns)


def _read_csv(path: Path, _columns: list[str]) -> Iterator[Row]:
    """Read csv or tsv; in a csv file the header may also have tabs, as open_clip's default is, or semicolons."""
    csv.field_size_limit(MAX_LINE_BYTES)
    with path.open("rb") as file:
        texts = (line.decode("utf-8", "surrogateescape") + "\n" for line in split_lines(file))
        if (header := next(texts, None)) is None:
            return
        delimiter = "\t" if "\t" in header else max(",;", key=header.count)
        (names,) = csv.reader([header], delimiter=delimiter, strict=True)
        for values in filter(None, csv.reader(texts, delimiter=delimiter, strict=True)):
            yield dict(zip(names, values, strict=True)) if len(values) == len(names) else MISCOUNTED


def _read_json_lines(path: Path, _columns: list[str]) -> Iterator[Row]:
    with path.open("rb") as file:
        for line in filter(None, split_lines(file)):
            yield NOT_JSON if (fields := decode_json_object(line)) is None else fields


def _read_parquet(path: Path, columns: list[str]) -> Iterator[Row]:
    with open_parquet(path) as file:
        for batch in decode_columns(path, file, columns):
            yield from iterate_values(batch)


def _read_json(path: Path, _columns: list[str]) -> Iterator[Row]:
    """Read a list of objects, or COCO's captions."""
    found = path.stat()
    yield from _decode_json(path, found.st_size, found.st_mtime_ns)


class CocoImage(msgspec.Struct):
    """An image in a file of COCO's."""

    id: int | str
    file_name: str


class CocoCaption(msgspec.Struct):
    """A caption in a file of COCO's."""

    image_id: int | str
    caption: str


class CocoCaptions(msgspec.Struct):
    """A file of captions as COCO has it (https://cocodataset.org/#format-data)."""

    images: list[CocoImage]
    annotations: list[CocoCaption]


@lru_cache(1)
def _decode_json(path: Path, _size: int, _time: int) -> list[Row]:
    content = read_limited(path)
    if content.lstrip()[:1] == b"[":
        rows: list[Row] = [
            row if isinstance(row, dict) else NOT_JSON for row in msgspec.json.decode(content, type=list)
        ]
        return rows
    try:
        coco = msgspec.json.decode(content, type=CocoCaptions)
    except msgspec.DecodeError:
        return []
    captions = dict[int | str, list[str]]()
    for one in coco.annotations:
        captions.setdefault(one.image_id, []).append(one.caption)
    return [{"file_name": image.file_name, "caption": captions.get(image.id)} for image in coco.images]


READERS: dict[str, Callable[[Path, list[str]], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
SUFFIXES = tuple(READERS)


def _join_captions(rows: list[dict[str, Any]], column: str) -> list[object]:
    """Return the captions of rows."""
    values = (row.get(column) for row in rows)
    texts = (value if isinstance(value, list) else [value] for value in values)
    return [text for each in texts for text in each if text is not None]


def _find_folder(table: Path) -> Path:
    """Return the folder to which a table's paths are relative: that with most of its first images.

    It is the table's own, one in it, or one beside it.
    """
    names = first_images(table)
    own = table.parent
    return max(
        [own, *_subfolders(own), own.parent, *_subfolders(own.parent)],
        key=lambda folder: sum(isinstance(find_image_file(folder, name), tuple) for name in names),
    )


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
