"""Tables that name image files and hold their captions: csv, tsv, JSON lines, Parquet, and COCO's JSON."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from bench.data.columns import KEY_COLUMNS, PATH_COLUMNS, find_column
from bench.data.paths import UNREADABLE, digest_file_excerpts, is_visible, iterate_files
from bench.data.sample_index import IndexBuilder, IndexedSource
from bench.data.sources.image_pairs import FileSamples
from bench.data.tables import open_table
from bench.environment.files import decode_json, read_limited
from bench.experiment.config import abbreviate_names

Row = Mapping[str, Any]  # the columns of a row, none if it cannot be read
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
COCO_COLUMNS = ("file_name", "caption")
CHECKED_TABLES = 20  # the first ones of a folder: there may be thousands, of other things
TRIED_ROWS = 64  # whose images are looked for


@dataclass(frozen=True, slots=True)
class TableStart:
    """What the first rows of a table tell."""

    columns: list[str]
    image_column: str
    folder: Path  # to which paths are relative


class ImageTables(IndexedSource):
    """Rows of a table; COCO's images have several captions."""

    name = "tables of image files"
    accepted = (
        "a csv, tsv, jsonl or Parquet file with a column of paths to images, or COCO's captions, or their folder; "
        "the images must be there"
    )
    samples = FileSamples

    def recognises(self, data: str) -> bool:
        first_tables = _possible_tables(data)[:CHECKED_TABLES]
        return any(_names_images(path) for path in first_tables)

    def files(self, data: str) -> list[Path]:
        tables = [path for path in _possible_tables(data) if _names_images(path)]
        if Path(data).is_dir() and len(tables) > 1:
            names = abbreviate_names([str(path) for path in tables])
            raise ValueError(f"{data} has {len(tables)} tables of images ({names}): name one")
        return tables

    def identity(self, path: Path) -> str:
        folder = self._start(path).folder
        return f"{digest_file_excerpts(path)} {folder} {folder.stat().st_mtime_ns}"

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        start = self._start(path)
        image = start.image_column
        key = find_column(start.columns, KEY_COLUMNS) or image
        texts = [name for name in start.columns if name != image]
        captions = builder.find_caption_columns(start.columns, texts)
        columns = list(dict.fromkeys([image, key, *captions]))
        for row in iterate_rows(path, columns):
            row_key = str(row.get(key))
            file = find_image_file(start.folder, str(row.get(image) or ""))
            if file is None:
                builder.add(row_key, row, None)
            else:
                builder.add(row_key, row, (os.fsencode(file.path),), file.size)

    def _start(self, path: Path) -> TableStart:
        start = _read_start(path)
        assert start is not None, f"{path} was recognised"
        return start


def _possible_tables(data: str) -> list[Path]:
    """Return the files that may be tables of images; of a folder also those in its subfolders."""
    if not Path(data).is_dir():
        return sorted(iterate_files(data, SUFFIXES), key=Path.as_posix)
    folder = Path(data).absolute()
    paths = list[Path]()
    for parent in (folder, *_subfolders(folder)):
        visible = [path for path in parent.iterdir() if is_visible(path.name, SUFFIXES)]
        paths += [path for path in visible if path.is_file()]
    return sorted(paths, key=Path.as_posix)


def _names_images(path: Path) -> bool:
    """Return whether a file is a table with a column of image paths, and one of its first images is there."""
    try:
        return _read_start(path) is not None
    except UNREADABLE:
        return False


def _read_start(path: Path) -> TableStart | None:
    """Read the first rows of a table; None if it names no image that is there.

    Paths are relative to the table's own folder, to one in it or to one beside it: the one that holds most of them.
    """
    columns = read_columns(path)
    image = find_column(columns, PATH_COLUMNS)
    if image is None:
        return None
    rows = islice(iterate_rows(path, [image]), TRIED_ROWS)
    names = [str(row[image]) for row in rows if row.get(image)]
    best_folder = path.parent
    most_images = 0
    for parent in (path.parent, path.parent.parent):
        for folder in (parent, *_subfolders(parent)):
            num_images = sum(find_image_file(folder, name) is not None for name in names)
            if num_images > most_images:
                best_folder = folder
                most_images = num_images
    if not most_images:
        return None
    return TableStart(columns, image, best_folder)


def _subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, without hidden ones."""
    with os.scandir(folder) as entries:
        folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    return sorted(path for path in folders if not path.name.startswith("."))


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that a table names."""

    path: str
    size: int  # bytes


def find_image_file(folder: Path, name: str) -> ImageFile | None:
    """Return a file that a table names; a relative path has to stay below the folder."""
    path = os.path.normpath(name)
    if path.startswith(os.pardir):
        return None
    joined = folder / path
    try:
        status = joined.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return ImageFile(str(joined), status.st_size)


def read_columns(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    if path.suffix.lower() == ".json":
        _read_coco_captions(path, path.stat().st_mtime_ns)
        return list(COCO_COLUMNS)
    with open_table(path) as table:
        return table.columns


def iterate_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    """Yield the rows of a table; of a Parquet file only the given columns."""
    if path.suffix.lower() == ".json":
        yield from _read_coco_captions(path, path.stat().st_mtime_ns)
    else:
        with open_table(path) as table:
            yield from table.read_rows(columns)


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
def _read_coco_captions(path: Path, _modified: int) -> list[Row]:
    """Return the images of a file of COCO's with their captions."""
    coco = decode_json(read_limited(path), CocoCaptions)
    captions = dict[int | str, list[str]]()
    for caption in coco.annotations:
        captions.setdefault(caption.image_id, []).append(caption.caption)
    rows = list[Row]()
    for image in coco.images:
        values = (image.file_name, captions.get(image.id))
        rows.append(dict(zip(COCO_COLUMNS, values, strict=True)))
    return rows
