"""Tables that name image files and hold their captions: csv, tsv, JSON lines, JSON (COCO's, too) and Parquet."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from bench.console.console import describe_error
from bench.data.captions.batches import (
    MISCOUNTED,
    NO_CAPTION,
    NOT_JSON,
    find_column,
    iterate_values,
    read_csv,
    read_json_lines,
)
from bench.data.captions.files import UNREADABLE
from bench.data.captions.parquet import iterate_decoded_batches, open_parquet
from bench.data.paths import digest_file_excerpts, is_visible, iterate_files
from bench.data.sample_index import IndexBuilder, IndexedSource
from bench.data.sources.columns import image_byte_columns
from bench.data.sources.image_files import SHOWN_FILES, FileSamples, find_image_file
from bench.environment.files import decode_json, read_limited
from bench.experiment.config import list_names

Row = Mapping[str, Any] | str  # the columns of a row, or what is wrong with it
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
PATH_COLUMNS = (
    "image",
    "image_path",
    "image_file",
    "img",
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "path",
    "file",
)
CHECKED_TABLES = 20  # the first ones of a folder: there may be thousands, of other things
TRIED_ROWS = 64  # whose columns and whose images are looked for


@dataclass(frozen=True, slots=True)
class TableStart:
    """What the first rows of a table tell."""

    columns: list[str]
    image_column: str
    folder: Path  # to which paths are relative


class ImagePathTables(IndexedSource):
    """Rows of a table; rows of one image are its captions."""

    name = "tables of image files"
    accepted = "a csv, tsv, jsonl, json or Parquet file with a column of image paths, or its folder"
    samples = FileSamples

    def recognises(self, data: str) -> bool:
        return any(map(has_image_paths, possible_tables(data)[:CHECKED_TABLES]))

    def files(self, data: str) -> list[Path]:
        tables = [*filter(has_image_paths, possible_tables(data))]
        if Path(data).is_dir() and len(tables) > 1:
            raise ValueError(
                f"{data} has {len(tables)} tables of images ({list_names([*map(str, tables)])}): name one"
            )
        return tables

    def identity(self, path: Path) -> str:
        folder = read_table_start(path).folder
        return f"{digest_file_excerpts(path)} {folder} {folder.stat().st_mtime_ns}"

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        start = read_table_start(path)
        key = builder.key_column(start.columns)
        if key is None:
            builder.keys_remedy = f"sort the rows by {start.image_column}"
        texts = [name for name in start.columns if name not in (start.image_column, key)]
        captions = builder.caption_columns(start.columns, texts)
        names = dict.fromkeys([start.image_column, *captions, key or start.image_column])
        missing = list[str]()
        for name, rows in _group_by_image(
            iterate_rows(path, [*names]), start.image_column, builder
        ):
            image = find_image_file(start.folder, name)
            sample_key = name if key is None else str(rows[0].get(key))
            values = _join_captions(rows, captions)
            if isinstance(image, str):
                missing.append(name)
                builder.add(sample_key, values, image)
            else:
                file, size = image
                flaw = builder.kind.unread_format_flaw([name.lower()])
                builder.add(sample_key, values, flaw or (file,), size)
        if missing:
            examples = list_names(missing[:SHOWN_FILES])
            lost = f"{len(missing):,} images are not below {start.folder}, such as {examples}"
            builder.notes.append(f"{path}: {lost}: paths are relative to this folder, or absolute")


def _group_by_image(
    rows: Iterator[Row], column: str, builder: IndexBuilder
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield each image with its rows, which are adjacent; rows that name no image are added as flawed samples."""
    image = ""
    group = list[Mapping[str, Any]]()
    for row in rows:
        name = "" if isinstance(row, str) else str(row.get(column) or "")
        if group and name != image:
            yield image, group
            group = []
        image = name
        if isinstance(row, str):
            builder.add("", row, row)
        elif name:
            group.append(row)
        else:
            builder.add("", NO_CAPTION, None)
    if group:
        yield image, group


def _join_captions(rows: list[Mapping[str, Any]], columns: list[str]) -> dict[str, object]:
    """Return the captions of an image by column: a list where it has several rows."""
    if len(rows) == 1:
        return {column: rows[0][column] for column in columns if column in rows[0]}
    joined = dict[str, object]()
    for column in columns:
        values = [row.get(column) for row in rows]
        lists = [value if isinstance(value, list) else [value] for value in values]
        joined[column] = [text for texts in lists for text in texts if text is not None]
    return joined


def possible_tables(data: str) -> list[Path]:
    """Return the files that may be tables of images."""
    paths = iterate_files(data, SUFFIXES)
    if Path(data).is_dir():
        folders = [Path(data).absolute(), *_subfolders(Path(data).absolute())]
        paths = (
            path
            for folder in folders
            for path in folder.iterdir()
            if is_visible(path.name, SUFFIXES)
        )
    return sorted(filter(Path.is_file, paths), key=Path.as_posix)


def has_image_paths(path: Path) -> bool:
    """Return whether a table can be read, has a column of image paths, and one of its first images is there."""
    try:
        read_table_start(path)
    except UNREADABLE:
        return False
    return True


def read_table_start(path: Path) -> TableStart:
    """Read the first rows of a table; ValueError if it cannot be read, or names no image that is there."""
    if path.suffix.lower() == ".parquet":
        schema = pq.read_schema(path)
        columns = [] if image_byte_columns(schema) else schema.names
        image = find_column(columns, PATH_COLUMNS)
        rows = _first_rows(path, [image]) if image else []
    else:
        rows = _first_rows(path, [])
        columns = [*dict.fromkeys(name for row in rows for name in row)]
        image = find_column(columns, PATH_COLUMNS)
    if image is None:
        names = f"no column has a name known for images (there are {list_names(columns) or 'none'})"
        raise ValueError(f"{names}: rename that of the paths, or of the bytes in Parquet, to image")
    images = [str(row[image]) for row in rows if row.get(image)]
    folder = _find_folder(path.parent, images)
    if not _count_images(folder, images):
        rule = "paths are relative to the table's folder, to one in it or beside it, or absolute"
        raise ValueError(
            f"none of its first images is there, such as {list_names(images[:1])}: {rule}"
        )
    return TableStart(columns, image, folder)


def _find_folder(folder: Path, images: list[str]) -> Path:
    """Return the folder to which paths are relative: the table's own, one in it or one beside it with most images."""
    folders = [folder, *_subfolders(folder), folder.parent, *_subfolders(folder.parent)]
    return max(folders, key=lambda candidate: _count_images(candidate, images))


def _count_images(folder: Path, images: list[str]) -> int:
    return sum(isinstance(find_image_file(folder, name), tuple) for name in images)


def _first_rows(path: Path, columns: list[str]) -> list[Mapping[str, Any]]:
    rows = islice(iterate_rows(path, columns), TRIED_ROWS)
    return [row for row in rows if isinstance(row, Mapping)]


def iterate_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    """Yield the rows of a table; of a Parquet file only the given columns."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        status = path.stat()
        yield from _read_json(path, status.st_size, status.st_mtime_ns)
    elif suffix == ".parquet":
        with open_parquet(path) as parquet:
            for batch in iterate_decoded_batches(path, parquet, columns):
                yield from iterate_values(batch)
    else:
        with path.open("rb") as file:
            if suffix in (".csv", ".tsv"):
                rows = read_csv(file)
                names = next(rows)
                yield from (
                    dict(zip(names, row, strict=True)) if len(row) == len(names) else MISCOUNTED
                    for row in rows
                )
            else:
                yield from (NOT_JSON if row is None else row for row in read_json_lines(file))


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
def _read_json(path: Path, _size: int, _time: int) -> list[Row]:
    """Read a list of objects, or COCO's captions; ValueError for images of COCO's with one id."""
    content = read_limited(path)
    if content.lstrip()[:1] == b"[":
        return [row if isinstance(row, dict) else NOT_JSON for row in decode_json(content, list)]
    coco = decode_json(content, CocoCaptions)
    repeated = [
        number
        for number, count in Counter(image.id for image in coco.images).most_common(1)
        if count > 1
    ]
    if repeated:
        raise ValueError(
            f"several images have the id {repeated[0]!r}: give each its own, which its captions name"
        )
    captions = dict[int | str, list[str]]()
    for caption in coco.annotations:
        captions.setdefault(caption.image_id, []).append(caption.caption)
    return [
        {"file_name": image.file_name, "caption": captions.get(image.id)} for image in coco.images
    ]


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".")
        )


def explain_refused_table(data: str) -> str:
    """Return why the first of the files that may be a table is not read; empty without such a file."""
    for path in possible_tables(data)[:1]:
        try:
            read_table_start(path)
        except UNREADABLE as error:
            return f" ({path}: {describe_error(error)})"
    return ""
