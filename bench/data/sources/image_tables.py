"""Tables that name image files and hold their captions: csv, tsv, JSON lines, JSON (COCO's, too) and Parquet."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from bench.data.captions.batches import (
    MISCOUNTED,
    NO_CAPTION,
    NOT_JSON,
    find_column,
    iterate_values,
    read_csv,
    read_json_lines,
)
from bench.data.captions.files import UNREADABLE, digest_file_excerpts, iterate_decoded_batches, open_parquet
from bench.data.sample_index import IndexBuilder, IndexedSource
from bench.data.sources.columns import PATH_COLUMNS, image_byte_columns
from bench.data.sources.image_files import SHOWN_FILES, FileSamples, find_image_file
from bench.data.sources.listing import is_visible, iterate_files
from bench.environment.files import read_limited
from bench.experiment.config import list_names

Row = Mapping[str, Any] | str  # the columns of a row, or what is wrong with it
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
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
        folder = read_table_start(path).find_folder()
        return f"{digest_file_excerpts(path)} {folder} {folder.stat().st_mtime_ns}"

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        start, lost = read_table_start(path), list[str]()
        names, image, folder = start.columns, start.image_column, start.find_folder()
        assert image is not None
        key = builder.key_column(names)
        columns = builder.caption_columns(names, [name for name in names if name not in (image, key)])
        read = [*dict.fromkeys([*columns, *filter(None, [key])])]
        images = dict[str, list[dict[str, Any]]]()

        def add_images() -> None:
            for name, rows in images.items():
                found = find_image_file(folder, name)
                place: tuple[str] | str
                if isinstance(found, tuple):
                    place, size = builder.kind.unread_format_flaw([name.lower()]) or (found[0],), found[1]
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
        start = read_table_start(path)
        return start.count_images(start.find_folder()) > 0
    except UNREADABLE:
        return False


@dataclass(frozen=True, slots=True)
class TableStart:
    """What the first rows of a table tell."""

    path: Path
    columns: list[str]  # none of a Parquet file with the bytes of images
    image_column: str | None  # that of image paths; None if no name is known
    images: list[str]  # the first image paths

    def find_folder(self) -> Path:
        """Return the folder to which paths are relative: that with most of the images.

        It is the table's own, one in it, or one beside it.
        """
        own = self.path.parent
        return max([own, *_subfolders(own), own.parent, *_subfolders(own.parent)], key=self.count_images)

    def count_images(self, folder: Path) -> int:
        """Return how many of the first images are files of a folder."""
        return sum(isinstance(find_image_file(folder, name), tuple) for name in self.images)


def read_table_start(path: Path) -> TableStart:
    """Read the first rows of a table; ValueError or OSError if the file cannot be read."""
    if path.suffix.lower() == ".parquet":
        schema = pq.read_schema(path)
        columns = [] if image_byte_columns(schema) else list(schema.names)
        image = find_column(columns, PATH_COLUMNS)
        rows = [] if image is None else _first_rows(path, [image])
    else:
        rows = _first_rows(path, [])
        columns = [*dict.fromkeys(name for row in rows for name in row)]
        image = find_column(columns, PATH_COLUMNS)
    return TableStart(path, columns, image, [str(row[image]) for row in rows if image and row.get(image)])


def _first_rows(path: Path, columns: list[str]) -> list[Mapping[str, Any]]:
    rows = islice(iterate_rows(path, columns), TRIED_ROWS)
    return [row for row in rows if isinstance(row, Mapping)]


def iterate_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    """Yield the rows of a table; of a Parquet file only the given columns."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        with open_parquet(path) as parquet:
            for batch in iterate_decoded_batches(path, parquet, columns):
                yield from iterate_values(batch)
    elif suffix == ".json":
        found = path.stat()
        yield from _decode_json(path, found.st_size, found.st_mtime_ns)
    else:
        with path.open("rb") as file:
            yield from _read_csv(file) if suffix in (".csv", ".tsv") else _read_json_lines(file)


def _read_csv(file: BufferedReader) -> Iterator[Row]:
    rows = read_csv(file)
    names = next(rows)
    return (dict(zip(names, row, strict=True)) if len(row) == len(names) else MISCOUNTED for row in rows)


def _read_json_lines(file: BufferedReader) -> Iterator[Row]:
    return (NOT_JSON if row is None else row for row in read_json_lines(file))


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
    """Read a list of objects, or COCO's captions."""
    content = read_limited(path)
    if content.lstrip()[:1] == b"[":
        return [row if isinstance(row, dict) else NOT_JSON for row in msgspec.json.decode(content, type=list)]
    try:
        coco = msgspec.json.decode(content, type=CocoCaptions)
    except msgspec.DecodeError:
        return []
    captions = dict[int | str, list[str]]()
    for one in coco.annotations:
        captions.setdefault(one.image_id, []).append(one.caption)
    return [{"file_name": image.file_name, "caption": captions.get(image.id)} for image in coco.images]


def _join_captions(rows: list[dict[str, Any]], column: str) -> list[object]:
    """Return the captions of rows."""
    values = (row.get(column) for row in rows)
    texts = (value if isinstance(value, list) else [value] for value in values)
    return [text for each in texts for text in each if text is not None]


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
