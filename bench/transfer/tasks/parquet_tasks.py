"""Tasks in parquet files as the Hugging Face hub has them: a column of encoded images and one of class labels.

The images are copied once to a file in the cache, from which they are read by their place.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.console.progress import show_progress
from bench.environment.files import atomic_write, prefix_errors
from bench.transfer.families.folders import PARQUET_LAYOUT
from bench.transfer.tasks.file_tasks import PART_FOLDERS, SplitOnDisk, folder_task, make_task
from bench.transfer.tasks.image_sources import (
    IMAGE_INDEX,
    UNREADABLE_FILES,
    PackedImageSource,
    digest_files,
    join_first_names,
    read_index,
    write_index,
)
from bench.transfer.tasks.tar_tasks import holds_tars, tar_task
from bench.transfer.tasks.tasks import SingleLabelTask

PART_BY_FOLDER = {name: part for part, names in PART_FOLDERS.items() for name in names}
LABEL_NAMES = ("label", "labels", "class", "category", "target", "cls")
HUB_KEY = b"huggingface"  # of the schema's metadata, in which `datasets` describes the columns
NO_LABEL = -1  # where the hub withholds the labels of a test split
ROWS_AT_ONCE = 256  # of images that are copied


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns that a task is read from."""

    image: str  # path of the column with the encoded images, such as "image.bytes"
    label: str
    classes: tuple[str, ...]  # names of the classes; empty where the file does not describe them
    other_labels: tuple[str, ...]  # other columns with class labels


def load_folder_of_any_layout(root: Path, cache: Path) -> SingleLabelTask:
    """Read tars, tables or class folders; raises ValueError as their readers."""
    if holds_tars(root):
        return tar_task(root, cache)
    if _list_tables(root):
        return parquet_task(root, cache)
    return folder_task("imagefolder", root, cache)


def parquet_task(root: Path, cache: Path) -> SingleLabelTask:
    """Read the splits of a folder; the ValueError shows the layout, or names what is wrong with a file."""
    files, left_out = _group_by_part(root)
    columns = _find_common_columns([path for paths in files.values() for path in paths])
    notes = []
    if left_out:
        notes.append(
            f"{root.name}: {join_first_names(left_out)} has the name of no split and is left out"
        )
    labels = {}
    for part, paths in files.items():
        labels_of_part = _read_labels(paths, columns.label)
        if pc.any(_is_labelled(labels_of_part)).as_py():
            labels[part] = labels_of_part
        else:
            notes.append(f"{root.name}: the {part} part has no labels and is left out")
    if not labels:
        raise ValueError(f"the column {columns.label} has no label in any part")
    if columns.other_labels:
        others = join_first_names(columns.other_labels)
        notes.append(f"{root.name}: classes are read from the column {columns.label}, not {others}")
    images = {part: _open_images(files[part], columns.image, cache) for part in labels}
    classes = _list_classes(columns, labels)
    parts = {}
    for part, labels_of_part in labels.items():
        numbers = _number_labels(images[part], labels_of_part, classes)
        parts[part] = SplitOnDisk(images[part], numbers, f"the {part} part of {root}")
    task = make_task(root.name, classes, parts, cache)
    return replace(task, notes=(*notes, *task.notes))


def _list_tables(root: Path) -> list[Path]:
    """Return the parquet files of a folder and of the folders in it."""
    return sorted([*root.glob("*.parquet"), *root.glob("*/*.parquet")])


def _group_by_part(root: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of each part, and the names of those of no part; all are of one part if no name says a part."""
    tables = _list_tables(root)
    if not tables:
        raise ValueError(f"{root} has no parquet file; expected is {PARQUET_LAYOUT}")
    part_of_table = {}
    for path in tables:
        prefix = re.split(r"[-_.]", path.stem)[0]
        part_of_table[path] = PART_BY_FOLDER.get(prefix) or PART_BY_FOLDER.get(path.parent.name)
    if not any(part_of_table.values()):
        part_of_table = dict.fromkeys(tables, "train")
    files = {}
    for part in PART_FOLDERS:
        paths = [path for path in tables if part_of_table[path] == part]
        folders = sorted({str(path.parent) for path in paths})
        if len(folders) > 1:
            raise ValueError(
                f"{root} has {part} files in several folders, {join_first_names(folders)}: name one"
            )
        if paths:
            files[part] = paths
    return files, [path.name for path in tables if part_of_table[path] is None]


def _find_common_columns(files: Sequence[Path]) -> TableColumns:
    columns = {path: _find_columns(path) for path in files}
    for path in files:
        if columns[path] != columns[files[0]]:
            raise ValueError(f"{path} has other labels or classes than {files[0]}")
    return columns[files[0]]


def _find_columns(path: Path) -> TableColumns:
    """Return the columns of images and labels: labels by the hub's description, else by their type and name."""
    with prefix_errors(path, UNREADABLE_FILES):
        schema = pq.read_schema(path)
        features = _read_description(schema)
        described = [
            name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"
        ]
        by_name = [
            name
            for name in LABEL_NAMES
            if name in schema.names and _may_be_label(schema.field(name).type)
        ]
        labels = described or by_name
        if not labels:
            columns = f"no column of labels ({', '.join(LABEL_NAMES)}) among {join_first_names(schema.names)}"
            raise ValueError(f"{columns}; expected is {PARQUET_LAYOUT}")
        image = _find_image_column(schema)
    label = next((name for name in labels if name in LABEL_NAMES), labels[0])
    classes = features.get(label, {}).get("names") or ()
    return TableColumns(
        image, label, tuple(map(str, classes)), tuple(name for name in labels if name != label)
    )


def _find_image_column(schema: pa.Schema) -> str:
    """Return the first column of bytes, or of structs that have bytes."""
    for field in schema:
        if _is_binary(field.type):
            return str(field.name)
        if pa.types.is_struct(field.type):
            for inner in field.type:
                if _is_binary(inner.type):
                    return f"{field.name}.{inner.name}"
    raise ValueError(
        f"no column holds images as bytes (there are {join_first_names(schema.names)})"
    )


def _read_description(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return how the hub describes each column; empty where it does not."""
    content = (schema.metadata or {}).get(HUB_KEY, b"{}")
    try:
        features = json.loads(content).get("info", {}).get("features", {})
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(
            f"the metadata {HUB_KEY.decode()} describes no columns: write the file anew"
        ) from None


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _may_be_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind)) or _is_text(kind)


def _read_labels(files: Sequence[Path], column: str) -> pa.ChunkedArray:
    """Return the labels of all rows, as texts or as 64-bit integers."""
    chunks = []
    for path in files:
        with prefix_errors(path, UNREADABLE_FILES):
            labels = pq.ParquetFile(path).read(columns=[column]).column(0)
            chunks += labels.cast(pa.large_string() if _is_text(labels.type) else pa.int64()).chunks
    return pa.chunked_array(chunks)


def _open_images(files: Sequence[Path], column: str, cache: Path) -> PackedImageSource:
    """Return the images of a part, which are copied to a file in the cache the first time."""
    digest = digest_files(files, column)
    copy = cache / f"images-{digest}.bin"
    index = cache / f"images-{digest}.arrow"
    if not index.is_file() or not copy.is_file():
        with atomic_write(copy) as temporary, temporary.open("wb") as output:
            batches = list(_copy_images(files, column, output))
        write_index(index, IMAGE_INDEX, batches)
    return PackedImageSource([copy], read_index(index))


def _copy_images(files: Sequence[Path], column: str, output: BinaryIO) -> Iterator[pa.RecordBatch]:
    """Append all images to a file and yield their places, a batch of rows at a time."""
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    title = f"copying images of {files[0].parent} ({gigabytes:.1f} GB) to the cache"
    for path in show_progress(files, len(files), title, "files"):
        first_row = 0
        with prefix_errors(path, UNREADABLE_FILES):
            for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE, columns=[column]):
                values = batch.column(0)
                for name in column.split(".")[1:]:
                    values = pc.struct_field(values, name)
                rows = []
                for row, value in enumerate(values, first_row):
                    image = value.as_py() or b""
                    place = {
                        "file": 0,
                        "offset": output.tell(),
                        "size": len(image),
                        "title": f"{path}: row {row}",
                    }
                    output.write(image)
                    rows.append(place)
                first_row += len(rows)
                yield pa.RecordBatch.from_pylist(rows, IMAGE_INDEX)


def _is_labelled(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    known = pc.is_valid(labels)
    return (
        known
        if _is_text(labels.type)
        else pc.and_(known, pc.fill_null(pc.not_equal(labels, NO_LABEL), False))
    )


def _list_classes(columns: TableColumns, labels: Mapping[str, pa.ChunkedArray]) -> list[str]:
    """Return the names of the classes: those of the description, else all texts, else the numbers up to the largest."""
    if columns.classes:
        return list(columns.classes)
    values = {
        value
        for labels_of_part in labels.values()
        for value in pc.unique(labels_of_part).to_pylist()
    }
    if any(isinstance(value, str) for value in values):
        return sorted(value for value in values if value)
    return [
        str(number) for number in range(1 + max(value for value in values if value is not None))
    ]


def _number_labels(
    images: PackedImageSource, labels: pa.ChunkedArray, classes: Sequence[str]
) -> np.ndarray:
    """Return the class numbers of a part; ValueError names the first row without a class."""
    numbers = (
        pc.index_in(labels, pa.array(classes, labels.type)) if _is_text(labels.type) else labels
    )
    numbers = np.asarray(pc.fill_null(numbers, NO_LABEL).to_numpy(), dtype=np.int64)
    invalid = np.flatnonzero((numbers < 0) | (numbers >= len(classes)))
    if len(invalid):
        row = int(invalid[0])
        title = images.index["title"][row].as_py()
        accepted = f"{len(classes):,} classes, {join_first_names(classes)}"
        raise ValueError(
            f"{title} has the label {labels[row].as_py()!r}, which is none of {accepted}"
        )
    return numbers
