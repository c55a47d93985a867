"""Tasks in tars as CLIP_benchmark writes them: an image and KEY.cls, the number of its class, for each sample.

Source: `build_wds_dataset` and `convert_dataset` of LAION-AI/CLIP_benchmark 48de38c.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.console.progress import show_progress
from bench.data.shards.tar_samples import Member, iterate_samples
from bench.environment.files import atomic_write, prefix_errors, read_limited
from bench.transfer.families.clip_benchmark_sets import SIZES
from bench.transfer.families.folders import TAR_LAYOUT
from bench.transfer.tasks.file_tasks import SplitOnDisk, find_part_folders, make_task_from_splits
from bench.transfer.tasks.image_sources import digest_files, join_first_names
from bench.transfer.tasks.packed_images import UNREADABLE_FILES, PackedImageSource
from bench.transfer.tasks.tasks import SingleLabelTask

IMAGE_SUFFIXES = ("webp", "png", "jpg", "jpeg")  # of several in a sample, the first of these
CLASS_NAMES, TEMPLATES, TYPE = "classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt"
SHARD_COUNT = "nshards.txt"
ONE_CLASS = "classification"  # the type of a data set without the file TYPE
MAX_BYTES = 32  # of a .cls member, and of the number of shards
INDEX_FORMAT = 1  # raise it when the same shards give another index
SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("key", pa.large_string()),
        ("offset", pa.int64()),  # of the image, in bytes
        ("size", pa.int64()),
        ("label", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class TarImages:
    """The images of a part's shards."""

    files: Sequence[Path]
    index: pa.Table

    def read(self, row: int) -> bytes:
        with self._shard(row).open("rb") as file:
            file.seek(self.index["offset"][row].as_py())
            return file.read(self.index["size"][row].as_py())

    def title(self, row: int) -> str:
        return f"{self._shard(row)}: {self.index['key'][row].as_py()}"

    def _shard(self, row: int) -> Path:
        return self.files[int(self.index["shard"][row].as_py())]


def holds_tars(root: Path) -> bool:
    """Return whether a part of a folder has shards."""
    return any(_list_tars(folder) for folder in find_part_folders(root).values())


def tar_task(root: Path, cache: Path) -> SingleLabelTask:
    """Read a folder of tars; the ValueError shows the layout, or names what is wrong with a file."""
    classes, parts = _open_parts(root, cache)
    return _make_task(root.name, root, classes, parts, cache)


def published_task(name: str, root: Path, cache: Path) -> SingleLabelTask:
    """Read a data set of CLIP_benchmark, in `root` or in a folder of its name there.

    Raises ValueError as `tar_task`, or where its size differs from the published one.
    """
    root = root / name if (root / name).is_dir() else root
    if root.name != name and not holds_tars(root):
        raise ValueError(f"neither {root} nor {root / name} has shards; expected is {TAR_LAYOUT}")
    classes, parts = _open_parts(root, cache)
    counts = (len(parts[part].labels) if part in parts else 0 for part in ("train", "test"))
    sizes = [*zip(("classes", "training images", "test images"), (len(classes), *counts), SIZES[name], strict=True)]
    for what, found, published in sizes:
        if published is not None and found != published:
            raise ValueError(
                f"{root} has {found:,} {what}, {name} is published with {published:,}: name the folder of that data "
                "set, or read any other with --task webdataset"
            )
    task = _make_task(name, root, classes, parts, cache)
    unchecked = [what for what, _, published in sizes if published is None]
    notes = [f"{name}: the number of {what} is not checked, because no exact one is published" for what in unchecked]
    return replace(task, notes=(*notes, *task.notes))


def _make_task(
    name: str, root: Path, classes: Sequence[str], parts: dict[str, SplitOnDisk], cache: Path
) -> SingleLabelTask:
    templates = root / TEMPLATES
    task = make_task_from_splits(name, classes, parts, cache)
    return replace(task, templates=str(templates) if templates.is_file() else "")


def _open_parts(root: Path, cache: Path) -> tuple[list[str], dict[str, SplitOnDisk]]:
    """Return the classes and the parts that have shards, without decoding an image."""
    shards = {part: shards for part, folder in find_part_folders(root).items() if (shards := _list_shards(folder))}
    if not shards:
        raise ValueError(f"{root} has no shards; expected is {TAR_LAYOUT}")
    kind = _read_lines(root / TYPE)[0].lower() if (root / TYPE).is_file() else ONE_CLASS
    if kind != ONE_CLASS:
        raise ValueError(f"{root / TYPE} says {kind}, expected is {ONE_CLASS}: one class per image")
    if not (root / CLASS_NAMES).is_file():
        raise ValueError(f"{root / CLASS_NAMES} is missing; expected is {TAR_LAYOUT}")
    classes = _read_lines(root / CLASS_NAMES)
    return classes, {part: _open_part(of, classes, cache) for part, of in shards.items()}


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, at least one; ValueError for an empty line before the end."""
    with prefix_errors(path):
        lines = [line.strip() for line in read_limited(path).decode().rstrip().split("\n")]
        if "" in lines:
            raise ValueError(f"line {lines.index('') + 1} is empty")
    return lines


def _list_tars(folder: Path) -> list[Path]:
    """Return the tars of a folder in the order of their numbers."""
    return sorted(
        (path for path in folder.glob("*.tar") if not path.name.startswith(".")),
        key=lambda path: (len(path.stem), path.stem),
    )


def _list_shards(folder: Path) -> list[Path]:
    """Return the shards of a part; ValueError where they differ from the number that is written beside them."""
    tars, counted = _list_tars(folder), folder / SHARD_COUNT
    if not counted.is_file():
        return tars
    (text, *_) = _read_lines(counted)
    if not text.isdecimal() or len(text) > MAX_BYTES:
        raise ValueError(f"{counted} says {text!r}, expected is the number of shards")
    if int(text) != len(tars):
        raise ValueError(f"{counted} says {int(text):,} shards, {len(tars):,} .tar files are there: download the rest")
    if absent := sorted({f"{number}.tar" for number in range(len(tars))} - {path.name for path in tars}):
        raise ValueError(f"{counted} says {len(tars):,} shards, and {join_first_names(absent)} is missing")
    return tars


def _open_part(shards: Sequence[Path], classes: Sequence[str], cache: Path) -> SplitOnDisk:
    folder, file = shards[0].parent, cache / f"labelled{INDEX_FORMAT}-{digest_files(shards)}.arrow"
    if not file.is_file():
        with atomic_write(file) as temporary, pa.ipc.new_file(temporary, SCHEMA) as writer:
            for number, shard in enumerate(show_progress(shards, len(shards), f"reading {folder}", "shards")):
                writer.write_batch(_index_shard(number, shard))
    with prefix_errors(f"{file}: no index of labelled images, remove it", UNREADABLE_FILES):
        index = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    images, labels = TarImages(shards, index), index["label"].to_numpy()
    if not len(labels):
        raise ValueError(f"{folder} has no samples")
    if len(outside := np.flatnonzero((labels < 0) | (labels >= len(classes)))):
        first, accepted = int(outside[0]), f"{len(classes):,} classes: numbers are 0 to {len(classes) - 1}"
        raise ValueError(f"{images.title(first)}.cls is {labels[first]}, and {CLASS_NAMES} has {accepted}")
    return SplitOnDisk(PackedImageSource(images, np.arange(len(labels))), labels, str(folder))


def _index_shard(number: int, shard: Path) -> pa.RecordBatch:
    """Return where the images of a shard lie, with their labels; ValueError names a sample that is not complete."""
    rows = list[dict[str, object]]()
    with prefix_errors(shard, UNREADABLE_FILES), shard.open("rb") as file:
        for key, members in iterate_samples(file):
            image = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
            if image is None or "cls" not in members:
                lacks = ".cls member" if image is not None else f"image ({', '.join(IMAGE_SUFFIXES)})"
                raise ValueError(f"sample {key} has no {lacks}")
            label = _read_label(file.fileno(), members["cls"], key)
            row = (number, key, image.offset, image.size, label)
            rows.append(dict(zip(SCHEMA.names, row, strict=True)))
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


def _read_label(descriptor: int, member: Member, key: str) -> int:
    content = os.pread(descriptor, min(member.size, MAX_BYTES), member.offset).strip()
    if not re.fullmatch(rb"-?\d{1,18}", content):
        raise ValueError(f"{key}.cls is {content.decode(errors='replace')!r}, expected is the number of a class")
    return int(content)
