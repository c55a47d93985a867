"""Tasks in parquet files as the Hugging Face hub has them: a column of encoded images and one of class labels."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int

from bench.data.captions.choice import FOUND_BY_NAME
from bench.data.captions.parquet import open_parquet
from bench.data.sample_index import read_index
from bench.data.sources.arrow_tables import ParquetImages
from bench.environment.files import prefix_errors
from bench.interfaces.data_source import SampleRequest, Samples
from bench.transfer.families.folders import PARQUET_LAYOUT
from bench.transfer.tasks.file_tasks import PART_FOLDERS, SplitOnDisk, make_task_from_splits
from bench.transfer.tasks.image_sources import join_first_names
from bench.transfer.tasks.packed_images import UNREADABLE_FILES, PackedImageSource
from bench.transfer.tasks.tasks import SingleLabelTask

PART_OF = {name: part for part, names in PART_FOLDERS.items() for name in names}  # by the name of a split
LABEL_NAMES = ("label", "labels", "class", "category", "target", "cls")
HUB_KEY = b"huggingface"  # of the schema's metadata, in which `datasets` describes the columns
NO_LABEL = -1  # where the hub withholds the labels of a test split


class LabelColumn(NamedTuple):
    """The column of labels, and the names of the classes; None where nothing names them."""

    name: str
    classes: tuple[str, ...] | None
    others: tuple[str, ...]  # other columns with class labels


@dataclass(frozen=True, slots=True, eq=False)
class TableImages:
    """The images of a part, and the labels of its rows."""

    files: Sequence[Path]
    samples: Sequence[Samples]  # with the images of each file
    starts: Int[np.ndarray, " files"]  # the first row of each file
    inside: Int[np.ndarray, " rows"]  # the sample of each row in its file; -1: it has no image
    labels: pa.ChunkedArray

    def read(self, row: int) -> bytes:
        return self.samples[self._file(row)].image(int(self.inside[row])) if self.inside[row] >= 0 else b""

    def title(self, row: int) -> str:
        return f"{self.files[self._file(row)]}: row {row - self.starts[self._file(row)]}"

    def _file(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, "right")) - 1


def list_tables(root: Path) -> list[Path]:
    """Return the parquet files of a folder and of the folders in it."""
    return sorted(path for pattern in ("*.parquet", "*/*.parquet") for path in root.glob(pattern))


def parquet_task(root: Path, cache: Path) -> SingleLabelTask:
    """Read the splits of a folder; the ValueError shows the layout, or names what is wrong with a file."""
    files, left_out = _group_by_part(root)
    column = _find_common_column([path for of_part in files.values() for path in of_part])
    images = {part: _open_part(of_part, column, cache) for part, of_part in files.items()}
    hidden = [part for part, of_part in images.items() if not pc.any(_is_labelled(of_part.labels)).as_py()]
    classes, labels = _number_classes({part: of for part, of in images.items() if part not in hidden}, column)
    parts = {
        part: SplitOnDisk(PackedImageSource(images[part], np.arange(len(of))), of, f"the {part} part of {root}")
        for part, of in labels.items()
    }
    notes = [f"{root.name}: {join_first_names(left_out)} has the name of no split and is left out"] if left_out else []
    notes += [f"{root.name}: the {part} part has no labels and is left out" for part in hidden]
    if column.others:
        notes.append(
            f"{root.name}: classes are read from the column {column.name}, not {join_first_names(column.others)}"
        )
    task = make_task_from_splits(root.name, classes, parts, cache)
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
            raise ValueError(
                f"{root} has {part} files in several folders, {join_first_names(folders)}: name one of these"
            )
    return {part: of for part, of in files.items() if of}, [path.name for path in tables if named[path] is None]


def _find_common_column(files: Sequence[Path]) -> LabelColumn:
    found = {path: _find_column(path) for path in files}
    for path in files:
        if found[path] != found[files[0]]:
            raise ValueError(f"{path} has other labels or classes than {files[0]}")
    return found[files[0]]


def _find_column(path: Path) -> LabelColumn:
    """Return the column of labels by the hub's description of it, else by its type and name."""
    with prefix_errors(path, UNREADABLE_FILES):
        schema = pq.read_schema(path)
        described = _read_description(schema)
        labels = [name for name in schema.names if described.get(name, {}).get("_type") == "ClassLabel"]
        labels = labels or [name for name in LABEL_NAMES if name in schema.names and _may_be_label(schema.field(name))]
        if not labels:
            there = f"no column of labels ({', '.join(LABEL_NAMES)}) among {join_first_names(schema.names)}"
            raise ValueError(f"{there}; expected is {PARQUET_LAYOUT}")
    label = next((name for name in labels if name in LABEL_NAMES), labels[0])
    classes = described.get(label, {}).get("names")
    others = tuple(name for name in labels if name != label)
    return LabelColumn(label, tuple(map(str, classes)) if classes else None, others)


def _read_description(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return how the hub describes each column; empty where it does not."""
    content = (schema.metadata or {}).get(HUB_KEY, b"{}")
    try:
        features = json.loads(content).get("info", {}).get("features", {})
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, AttributeError, RecursionError):
        raise ValueError(f"the metadata {HUB_KEY.decode()} describes no columns: write the file anew") from None


def _may_be_label(field: pa.Field) -> bool:
    return bool(pa.types.is_integer(field.type)) or _is_text(field.type)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _open_part(files: Sequence[Path], column: LabelColumn, cache: Path) -> TableImages:
    request = SampleRequest(cache=cache, captions=FOUND_BY_NAME, needs_captions=False)
    samples, inside, labels = list[Samples](), list[Int[np.ndarray, " rows"]](), list[pa.ChunkedArray]()
    for path in files:
        with prefix_errors(path, UNREADABLE_FILES), open_parquet(path) as file:
            of_file = file.read(columns=[column.name]).column(0)
            labels.append(of_file.cast(pa.large_string() if _is_text(of_file.type) else pa.int64()))
        opened = ParquetImages().open(str(path), request)
        places = read_index(opened.indexes[0])[0]["place"].to_numpy()
        inside.append(np.full(len(of_file), -1))
        inside[-1][places] = np.arange(len(places))
        samples.append(opened)
    starts = np.cumsum([0, *map(len, inside[:-1])])
    chunks = [chunk for of_file in labels for chunk in of_file.chunks]
    return TableImages(files, samples, starts, np.concatenate(inside), pa.chunked_array(chunks, labels[0].type))


def _is_labelled(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    known = pc.is_valid(labels)
    return known if _is_text(labels.type) else pc.and_(known, pc.fill_null(pc.not_equal(labels, NO_LABEL), False))


def _number_classes(
    images: Mapping[str, TableImages], column: LabelColumn
) -> tuple[list[str], dict[str, Int[np.ndarray, " images"]]]:
    """Return the classes and the class numbers of each part; ValueError names the first row without a class."""
    values = {part: of.labels for part, of in images.items()}
    if not values:
        raise ValueError(f"the column {column.name} has no label in any part")
    classes = list(column.classes or ())
    if any(_is_text(of.type) for of in values.values()):
        classes = classes or sorted({name for of in values.values() for name in pc.unique(of).to_pylist() if name})
        values = {part: pc.index_in(of, pa.array(classes, of.type)) for part, of in values.items()}
    labels = {part: pc.fill_null(of, NO_LABEL).to_numpy().astype(np.int64) for part, of in values.items()}
    classes = classes or [str(number) for number in range(1 + max(int(of.max()) for of in labels.values()))]
    for part, of in labels.items():
        if len(outside := np.flatnonzero((of < 0) | (of >= len(classes)))):
            row = int(outside[0])
            found = images[part].labels[row].as_py()
            accepted = f"{len(classes):,} classes, {join_first_names(classes)}"
            raise ValueError(f"{images[part].title(row)} has the label {found!r}, which is none of {accepted}")
    return classes, labels
