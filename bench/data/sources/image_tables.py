"""Tables that name image files and hold their captions: csv, tsv, JSON, JSON lines, Parquet, and text with a header."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from heapq import nsmallest
from itertools import chain, filterfalse, islice
from pathlib import Path

from bench.data.columns import IMAGE_ENDINGS, KEY_COLUMNS, PATH_COLUMNS, find_first_known_column
from bench.data.paths import UNREADABLE, digest_file_excerpts, iterate_files
from bench.data.sample_index import IndexBuilder, IndexingSource
from bench.data.sources.image_pairs import ImageFileSamples
from bench.data.tables import open_table, read_first_rows
from bench.experiment.config import join_first_names_shortened, look_up
from bench.interfaces.data_source import SampleFieldsRequest

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
TEXT_SUFFIXES = (".json", ".txt")  # of tables, and of captions of single images
CHECKED_TEXTS = 100  # the first ones of these by suffix and name
CHECKED_TABLES = 20  # the first ones of a folder: there may be thousands, of other things


@dataclass(frozen=True, slots=True)
class ImageTableLayout:
    """Where a table names its images and their texts, found in its first rows."""

    columns: list[str]
    text_columns: list[str]  # that may hold texts
    image_column: str  # of paths
    folder: Path  # to which these paths are relative
    image_folders: set[Path]  # of the images that the first rows name; one at least exists


class TablesOfImageFiles(IndexingSource):
    """Tables that name image files and hold their captions, such as csv files or COCO's JSON."""

    name = "tables of image files"
    samples = ImageFileSamples

    def recognises(self, data: str) -> bool:
        return any(_is_image_table(path) for path in find_possible_image_tables(data))

    def files(self, data: str) -> list[Path]:
        tables = [path for path in find_possible_image_tables(data) if _is_image_table(path)]
        if Path(data).is_dir() and len(tables) > 1:
            names = join_first_names_shortened([str(path) for path in tables])
            raise ValueError(f"{data} has {len(tables)} tables of images ({names}): name one")
        return tables

    def fingerprint(self, path: Path, request: SampleFieldsRequest) -> str:
        """Return a text that changes with the table, and with the files beside the images of its first rows."""
        layout = read_image_table_layout(path, request.image_column)
        times = [path.stat().st_mtime_ns for path in layout.image_folders if path.is_dir()]
        return f"{digest_file_excerpts(path)} {layout.folder} {max(times, default=0)}"

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        layout = read_image_table_layout(path, builder.image_column)
        image_column = layout.image_column
        key_column = find_first_known_column(layout.columns, KEY_COLUMNS) or image_column
        text_columns = [name for name in layout.text_columns if name != image_column]
        first_rows = read_first_rows(path, text_columns)
        captions = builder.find_caption_columns(layout.columns, text_columns, first_rows)
        columns = list(dict.fromkeys([image_column, key_column, *captions]))
        with open_table(path) as table:
            for row in table.read_rows(columns):
                image_name = str(row.get(image_column) or "")
                key_value = row.get(key_column)
                row_key = image_name if key_value is None else str(key_value)
                file = find_image_file(layout.folder, image_name)
                if file is None:
                    builder.add_sample(row_key, row, None)
                else:
                    image_place = (os.fsencode(file.path),)
                    builder.add_sample(row_key, row, image_place, file.num_bytes)


def find_possible_image_tables(data: str) -> list[Path]:
    """Return the first files that may be tables of images: of a folder, those in it and in its subfolders."""
    patterns = [data]
    if Path(data).is_dir():
        folder = escape(str(Path(data).absolute()))
        patterns = [f"{folder}/*", f"{folder}/*/*"]
    tables = chain.from_iterable(iterate_files(name, SUFFIXES) for name in patterns)
    texts = chain.from_iterable(iterate_files(name, TEXT_SUFFIXES) for name in patterns)
    # .json before .txt, of which there may be one for each image.
    first_texts = nsmallest(CHECKED_TEXTS, texts, key=lambda path: (path.suffix, path))
    paths = chain(sorted(tables), first_texts)
    return list(islice(filterfalse(_has_image_of_same_stem, paths), CHECKED_TABLES))


def _has_image_of_same_stem(path: Path) -> bool:
    """Return whether an image beside a file has its name: the file holds its caption."""
    return any(path.with_suffix(ending).exists() for ending in IMAGE_ENDINGS)


def _is_image_table(path: Path) -> bool:
    """Return whether a file is a table with a column of paths to images that exist."""
    try:
        read_image_table_layout(path, None)
    except UNREADABLE:
        return False
    return True


def read_image_table_layout(path: Path, image_column: str | None) -> ImageTableLayout:
    """Find the images of a table by its first rows; ValueError if it names no image that exists.

    The column of images is the given one, else one with a known name, else any with paths of images.
    """
    with open_table(path) as table:
        columns = table.columns
        text_columns = table.text_columns
    known = find_first_known_column(columns, PATH_COLUMNS)
    candidates = text_columns
    if known is not None:
        candidates = list(dict.fromkeys([known, *text_columns]))
    if image_column is not None:
        look_up(image_column, dict.fromkeys(columns), "column")
        candidates = [image_column]
    rows = list(read_first_rows(path, candidates))
    missing = ""
    for column in candidates:
        values = [row.get(column) for row in rows]
        names = [str(value) for value in values if value]
        if column not in (image_column, known):
            if column.lower().endswith(IMAGE_ENDINGS):
                continue  # the first row, in place of a header
            names = [name for name in names if name.lower().endswith(IMAGE_ENDINGS)]
        folder = _find_image_folder(path, names)
        if folder is not None:
            image_folders = {(folder / name).parent for name in names}
            return ImageTableLayout(columns, text_columns, column, folder, image_folders)
        if names and not missing:
            missing = f"the images of its column {column!r}, such as {join_first_names_shortened(names[:1])}"
    raise ValueError(
        missing or f"a column of paths of images (there are {join_first_names_shortened(columns)})"
    )


def _find_image_folder(table: Path, image_names: Sequence[str]) -> Path | None:
    """Return the folder that holds most of the named files; None if no folder holds any.

    Paths are relative to the table's own folder, to one in it or to one beside it.
    """
    best_folder = None
    most_images = 0
    for parent in (table.parent, table.parent.parent):
        for folder in (parent, *sorted(parent.glob("[!.]*/"))):
            files = [find_image_file(folder, name) for name in image_names]
            num_images = len(files) - files.count(None)
            if num_images > most_images:
                best_folder = folder
                most_images = num_images
    return best_folder


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file that a table names."""

    path: str
    num_bytes: int


def find_image_file(folder: Path, name: str) -> ImageFile | None:
    """Return an image file that a table names; None unless it exists, or if a relative path leaves the folder."""
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
