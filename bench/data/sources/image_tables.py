"""Tables that name image files and hold their captions: csv, tsv, JSON, JSON lines, Parquet, and text with a header."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from itertools import chain, islice
from pathlib import Path

from bench.data.columns import IMAGE_ENDINGS, KEY_COLUMNS, PATH_COLUMNS, find_column
from bench.data.paths import UNREADABLE, digest_file_excerpts, iterate_files
from bench.data.sample_index import IndexBuilder, IndexedSource
from bench.data.sources.image_pairs import ImageFileSamples
from bench.data.tables import open_table, read_first_rows
from bench.experiment.config import join_names, look_up
from bench.interfaces.data_source import SampleRequest

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
TEXT_SUFFIXES = (".json", ".txt")  # of tables, and of captions of single images
CHECKED_TEXTS = 100  # the first ones of these
CHECKED_TABLES = 20  # the first ones of a folder: there may be thousands, of other things


@dataclass(frozen=True, slots=True)
class ImageTableLayout:
    """What the first rows of a table tell."""

    columns: list[str]
    texts: list[str]  # columns that may hold texts
    image_column: str
    folder: Path  # to which paths are relative


class ImageTables(IndexedSource):
    """Rows of a table; COCO's images have several captions."""

    name = "tables of image files"
    samples = ImageFileSamples

    def recognises(self, data: str) -> bool:
        return any(_is_image_table(path) for path in find_possible_tables(data))

    def files(self, data: str) -> list[Path]:
        tables = [path for path in find_possible_tables(data) if _is_image_table(path)]
        if Path(data).is_dir() and len(tables) > 1:
            names = join_names([str(path) for path in tables])
            raise ValueError(f"{data} has {len(tables)} tables of images ({names}): name one")
        return tables

    def fingerprint(self, path: Path, request: SampleRequest) -> str:
        folder = read_table_layout(path, request.image_column).folder
        return f"{digest_file_excerpts(path)} {folder} {folder.stat().st_mtime_ns}"

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        start = read_table_layout(path, builder.image_column)
        image = start.image_column
        key = find_column(start.columns, KEY_COLUMNS) or image
        texts = [name for name in start.texts if name != image]
        first_rows = read_first_rows(path, texts)
        captions = builder.find_caption_columns(start.columns, texts, first_rows)
        columns = list(dict.fromkeys([image, key, *captions]))
        with open_table(path) as table:
            for row in table.read_rows(columns):
                row_key = str(row.get(key))
                file = find_image_file(start.folder, str(row.get(image) or ""))
                if file is None:
                    builder.add(row_key, row, None)
                else:
                    builder.add(row_key, row, (os.fsencode(file.path),), file.size)


def find_possible_tables(data: str) -> list[Path]:
    """Return the first files that may be tables of images; of a folder also those in its subfolders."""
    patterns = [data]
    if Path(data).is_dir():
        folder = escape(str(Path(data).absolute()))
        patterns = [f"{folder}/*", f"{folder}/*/*"]
    tables = sorted(chain.from_iterable(iterate_files(name, SUFFIXES) for name in patterns))
    texts = chain.from_iterable(iterate_files(name, TEXT_SUFFIXES) for name in patterns)
    paths = [*tables, *sorted(islice(texts, CHECKED_TEXTS), key=lambda path: (path.suffix, path))]
    alone = (path for path in paths if not _has_image_beside(path))
    return list(islice(alone, CHECKED_TABLES))


def _has_image_beside(path: Path) -> bool:
    """Return whether an image beside a file has its name."""
    return any(path.with_suffix(ending).exists() for ending in IMAGE_ENDINGS)


def _is_image_table(path: Path) -> bool:
    """Return whether a file is a table with a column of image paths, and one of its first images is there."""
    try:
        read_table_layout(path, None)
    except UNREADABLE:
        return False
    return True


def read_table_layout(path: Path, image_column: str | None) -> ImageTableLayout:
    """Read the first rows of a table; ValueError if it names no image that is there.

    The column of images is the given one, else one with a known name, else any with paths of images.
    """
    with open_table(path) as table:
        columns = table.columns
        texts = table.texts
    known = find_column(columns, PATH_COLUMNS)
    if image_column is not None:
        candidates = [look_up(image_column, dict(zip(columns, columns, strict=True)), "column")]
    elif known is not None:
        candidates = list(dict.fromkeys([known, *texts]))
    else:
        candidates = texts
    rows = list(read_first_rows(path, candidates))
    missing = ""
    for column in candidates:
        names = [str(row[column]) for row in rows if row.get(column)]
        if column not in (image_column, known):
            if column.lower().endswith(IMAGE_ENDINGS):
                continue  # the first row, in place of a header
            names = [name for name in names if name.lower().endswith(IMAGE_ENDINGS)]
        folder = _find_image_folder(path, names)
        if folder is not None:
            return ImageTableLayout(columns, texts, column, folder)
        if names and not missing:
            missing = f"the images of its column {column!r}, such as {join_names(names[:1])}"
    raise ValueError(missing or f"a column of paths of images (there are {join_names(columns)})")


def _find_image_folder(table: Path, names: Sequence[str]) -> Path | None:
    """Return the folder that holds most of the named files; None if no folder holds any.

    Paths are relative to the table's own folder, to one in it or to one beside it.
    """
    best_folder = None
    most_images = 0
    for parent in (table.parent, table.parent.parent):
        for folder in (parent, *sorted(parent.glob("[!.]*/"))):
            num_images = sum(find_image_file(folder, name) is not None for name in names)
            if num_images > most_images:
                best_folder = folder
                most_images = num_images
    return best_folder


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
