"""Tasks in parquet files as the Hugging Face hub has them: a column of encoded images and one of class labels."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from bench.console.progress import show_progress
from bench.environment.files import prefix_errors
from bench.transfer.families.folders import PARQUET_LAYOUT
from bench.transfer.tasks.file_tasks import PART_FOLDERS, FoundPart, make_task_of_parts
from bench.transfer.tasks.image_sources import digest_files, format_some
from bench.transfer.tasks.packed_images import UNREADABLE_FILES, PackedImageSource, cached_table
from bench.transfer.tasks.tasks import SingleLabelTask

PART_OF = {name: part for part, names in PART_FOLDERS.items() for name in names}  # by the name of a split
IMAGE_NAMES = ("image", "img", "jpg", "png", "webp")  # of columns of bytes that nothing describes
LABEL_NAMES = ("label", "labels", "class", "category", "target", "cls")
HUB_KEY = b"huggingface"  # of the schema's metadata, in which `datasets` describes the columns
NO_LABEL = -1  # where the hub withholds the labels of a test split
ROWS_AT_ONCE = 256
TABLE_FORMAT = 1  # raise it when the same files give another table


class LabelledColumns(NamedTuple):
    """The columns that are read, and the names of the classes; None where nothing names them."""

    image: str
    label: str
    classes: tuple[str, ...] | None
    others: tuple[str, ...]  # other columns with class labels


@dataclass(frozen=True, slots=True, eq=False)
class TableImages:
    """The images of a part, copied from its files into one table."""

    files: Sequence[Path]
    table: pa.Table

    def read(self, row: int) -> bytes:
        found: bytes = self.table["image"][row].as_py()
        return found

    def title(self, row: int) -> str:
        return f"{self.files[self.table['file'][row].as_py()]}: row {self.table['row'][row].as_py()}"


def list_tables(root: Path) -> list[Path]:
    """Return the parquet files of a folder and of the folders in it."""
    return sorted(path for pattern in ("*.parquet", "*/*.parquet") for path in root.glob(pattern))


def parquet_task(root: Path, cache: Path) -> SingleLabelTask:
    """Read the splits of a folder; the ValueError shows the layout, or names what is wrong with a file."""
    files, left_out = _group_by_part(root)
    columns = _find_common_columns([path for of_part in files.values() for path in of_part])
    images = {part: TableImages(of_part, _copy(of_part, columns, cache)) for part, of_part in files.items()}
    hidden = [part for part, of_part in images.items() if not pc.any(_is_labelled(of_part.table["label"])).as_py()]
    classes, labels = _number_classes({part: of for part, of in images.items() if part not in hidden}, columns)
    parts = {
        part: FoundPart(PackedImageSource(images[part], np.arange(len(of))), of, f"the {part} part of {root}")
        for part, of in labels.items()
    }
    notes = [f"{root.name}: {format_some(left_out)} has the name of no split and is left out"] if left_out else []
    notes += [f"{root.name}: the {part} part has no labels and is left out" for part in hidden]
    if columns.others:
        notes.append(
            f"{root.name}: classes are read from the column {columns.label}, not {format_some(columns.others)}"
        )
    task = make_task_of_parts(root.name, classes, parts, cache)
    return replace(task, notes=(*notes, *task.notes))


def _group_by_part(root: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Return the files of each part, and the names of those of no part; all are of one part if no name says a part."""
    tables = list_tables(root)
    if not tables:
        raise ValueError(f"{root} has no parquet file; expected is {PARQUET_LAYOUT}")
    named = {path: PART_OF.get(re.split(r"[-_.]", path.stem)[0]) or PART_OF.get(path.parent.name) for path in tables}
    if not any(named.values()):
        named = dict.fromkeys(tables, "train")
    files = {part: [path for path in tables if named[path] == part] for part in PART_FOLDERS}
    for part, of_part in files.items():
        if len(folders := sorted({str(path.parent) for path in of_part})) > 1:
            raise ValueError(f"{root} has {part} files in several folders, {format_some(folders)}: name one of these")
    return {part: of for part, of in files.items() if of}, [path.name for path in tables if named[path] is None]


def _find_common_columns(files: Sequence[Path]) -> LabelledColumns:
    found = {path: _find_columns(path) for path in files}
    for path in files:
        if found[path] != found[files[0]]:
            raise ValueError(f"{path} has other columns or classes than {files[0]}")
    return found[files[0]]


def _find_columns(path: Path) -> LabelledColumns:
    """Return the columns by the hub's description of them, else by their types and names."""
    with prefix_errors(path, UNREADABLE_FILES):
        schema = pq.read_schema(path)
        described = _read_description(schema)
        images = [name for name in schema.names if described.get(name, {}).get("_type") == "Image"]
        images = images or [field.name for field in schema if _may_be_image(field)]
        labels = [name for name in schema.names if described.get(name, {}).get("_type") == "ClassLabel"]
        labels = labels or [name for name in LABEL_NAMES if name in schema.names and _may_be_label(schema.field(name))]
        for found, what in ((images, "images (bytes)"), (labels, f"labels ({', '.join(LABEL_NAMES)})")):
            if not found:
                raise ValueError(f"no column of {what} among {format_some(schema.names)}; expected is {PARQUET_LAYOUT}")
    label = next((name for name in labels if name in LABEL_NAMES), labels[0])
    classes = described.get(label, {}).get("names")
    others = tuple(name for name in labels if name != label)
    return LabelledColumns(images[0], label, tuple(map(str, classes)) if classes else None, others)


def _read_description(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return how the hub describes each column; empty where it does not."""
    content = (schema.metadata or {}).get(HUB_KEY, b"{}")
    try:
        features = json.loads(content).get("info", {}).get("features", {})
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"the metadata {HUB_KEY.decode()} describes no columns: write the file anew") from None


def _may_be_image(field: pa.Field) -> bool:
    if pa.types.is_struct(field.type):
        return any(_is_bytes(field.type.field(index)) for index in range(field.type.num_fields))
    return field.name in IMAGE_NAMES and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))


def _is_bytes(field: pa.Field) -> bool:
    return field.name == "bytes" and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))


def _may_be_label(field: pa.Field) -> bool:
    return pa.types.is_integer(field.type) or _is_text(field.type)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _copy(files: Sequence[Path], columns: LabelledColumns, cache: Path) -> pa.Table:
    """Return the images and labels of some files, with the file and the row of each."""
    label = pa.large_string() if _is_text(pq.read_schema(files[0]).field(columns.label).type) else pa.int64()
    schema = pa.schema([("image", pa.large_binary()), ("label", label), ("file", pa.int32()), ("row", pa.int64())])
    digest = digest_files(files, f"{TABLE_FORMAT} {columns.image} {columns.label}")
    return cached_table(cache / f"table-{digest}.arrow", schema, lambda: _read_batches(files, columns, schema))


def _read_batches(files: Sequence[Path], columns: LabelledColumns, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for number, path in enumerate(show_progress(files, len(files), f"reading {files[0].parent}", "files")):
        with prefix_errors(path, UNREADABLE_FILES), pq.ParquetFile(path) as file:
            first = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=[columns.image, columns.label]):
                image, label = batch.column(columns.image), batch.column(columns.label)
                image = pc.struct_field(image, "bytes") if pa.types.is_struct(image.type) else image
                image = pc.fill_null(image.cast(pa.large_binary()), b"")
                rows = np.arange(first, first + len(batch))
                arrays = [image, label.cast(schema.field("label").type), np.full(len(batch), number, np.int32), rows]
                yield pa.RecordBatch.from_arrays([pa.array(one) for one in arrays], schema=schema)
                first += len(batch)


def _is_labelled(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    known = pc.is_valid(labels)
    return known if _is_text(labels.type) else pc.and_(known, pc.fill_null(pc.not_equal(labels, NO_LABEL), False))


def _number_classes(
    images: Mapping[str, TableImages], columns: LabelledColumns
) -> tuple[list[str], dict[str, Int[np.ndarray, " images"]]]:
    """Return the classes and the class numbers of each part; ValueError names the first row without a class."""
    values = {part: of.table["label"] for part, of in images.items()}
    if not values:
        raise ValueError(f"the column {columns.label} has no label in any part")
    classes = list(columns.classes or ())
    if any(_is_text(of.type) for of in values.values()):
        classes = classes or sorted({name for of in values.values() for name in pc.unique(of).to_pylist() if name})
        values = {part: pc.index_in(of, pa.array(classes, of.type)) for part, of in values.items()}
    labels = {part: pc.fill_null(of, NO_LABEL).to_numpy().astype(np.int64) for part, of in values.items()}
    classes = classes or [str(number) for number in range(1 + max(int(of.max()) for of in labels.values()))]
    for part, of in labels.items():
        if len(outside := np.flatnonzero((of < 0) | (of >= len(classes)))):
            row = int(outside[0])
            found = images[part].table["label"][row].as_py()
            accepted = f"{len(classes):,} classes, {format_some(classes)}"
            raise ValueError(f"{images[part].title(row)} has the label {found!r}, which is none of {accepted}")
    return classes, labels
