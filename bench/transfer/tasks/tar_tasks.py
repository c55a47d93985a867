"""Tasks in tars as CLIP_benchmark writes them: an image and KEY.cls, the number of its class, for each sample.

Source: `build_wds_dataset` and `convert_dataset` of LAION-AI/CLIP_benchmark 48de38c.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.console.progress import show_progress
from bench.data.shards.tar_samples import Member, iterate_samples
from bench.environment.files import prefix_errors, read_limited
from bench.transfer.families.clip_benchmark_sets import SIZES
from bench.transfer.families.folders import TAR_LAYOUT
from bench.transfer.tasks.file_tasks import SplitOnDisk, find_part_folders, make_task
from bench.transfer.tasks.image_sources import (
    IMAGE_INDEX,
    UNREADABLE_FILES,
    PackedImageSource,
    digest_files,
    join_first_names,
    read_index,
    write_index,
)
from bench.transfer.tasks.tasks import SingleLabelTask

IMAGE_SUFFIXES = ("webp", "png", "jpg", "jpeg")  # of several in a sample, the first of these
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
TYPE = "dataset_type.txt"
SHARD_COUNT = "nshards.txt"
ONE_CLASS = "classification"  # the type of a data set without the file TYPE
MAX_LABEL_BYTES = 32  # of a .cls member
INDEX_FORMAT = 2  # raise it when the same shards give another index
TAR_INDEX = IMAGE_INDEX.append(pa.field("label", pa.int64()))


def holds_tars(root: Path) -> bool:
    """Return whether a part of a folder has shards."""
    return any(_list_tars(folder) for folder in find_part_folders(root).values())


def tar_task(root: Path, cache: Path) -> SingleLabelTask:
    """Read a folder of tars; the ValueError shows the layout, or names what is wrong with a file."""
    classes, parts = open_parts(root, cache)
    return _make_task(root.name, root, classes, parts, cache)


def published_task(name: str, root: Path, cache: Path) -> SingleLabelTask:
    """Read a data set of CLIP_benchmark, in `root` or in a folder of its name there.

    Raises ValueError as `tar_task`, or where its size differs from the published one.
    """
    if (root / name).is_dir():
        root = root / name
    elif root.name != name and not holds_tars(root):
        raise ValueError(f"neither {root} nor {root / name} has shards; expected is {TAR_LAYOUT}")
    classes, parts = open_parts(root, cache)
    sizes = {part: len(parts[part].labels) if part in parts else 0 for part in ("train", "test")}
    published = SIZES[name]
    notes = []
    for unit, size, published_size in (
        ("classes", len(classes), published.classes),
        ("training images", sizes["train"], published.train),
        ("test images", sizes["test"], published.test),
    ):
        if published_size is None:
            notes.append(
                f"{name}: the number of {unit} is not checked, because no exact one is published"
            )
        elif size != published_size:
            raise ValueError(
                f"{root} has {size:,} {unit}, {name} is published with {published_size:,}: name the folder of that "
                "data set, or read any other with --task webdataset"
            )
    task = _make_task(name, root, classes, parts, cache)
    return replace(task, notes=(*notes, *task.notes))


def _make_task(
    name: str, root: Path, classes: Sequence[str], parts: dict[str, SplitOnDisk], cache: Path
) -> SingleLabelTask:
    templates = root / TEMPLATES
    task = make_task(name, classes, parts, cache)
    return replace(task, templates=str(templates) if templates.is_file() else "")


def open_parts(root: Path, cache: Path) -> tuple[list[str], dict[str, SplitOnDisk]]:
    """Return the classes and the parts that have shards, without decoding an image."""
    shards_by_part = {
        part: _list_shards(folder) for part, folder in find_part_folders(root).items()
    }
    if not any(shards_by_part.values()):
        raise ValueError(f"{root} has no shards; expected is {TAR_LAYOUT}")
    kind = _read_lines(root / TYPE)[0].lower() if (root / TYPE).is_file() else ONE_CLASS
    if kind != ONE_CLASS:
        raise ValueError(f"{root / TYPE} says {kind}, expected is {ONE_CLASS}: one class per image")
    if not (root / CLASS_NAMES).is_file():
        raise ValueError(f"{root / CLASS_NAMES} is missing; expected is {TAR_LAYOUT}")
    classes = _read_lines(root / CLASS_NAMES)
    return classes, {
        part: _open_part(shards, classes, cache)
        for part, shards in shards_by_part.items()
        if shards
    }


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, at least one; ValueError for an empty line before the end."""
    with prefix_errors(path):
        lines = [line.strip() for line in read_limited(path).decode().rstrip().split("\n")]
        if "" in lines:
            raise ValueError(f"line {lines.index('') + 1} is empty")
    return lines


def _list_tars(folder: Path) -> list[Path]:
    """Return the tars of a folder in the order of their numbers."""
    tars = [path for path in folder.glob("*.tar") if not path.name.startswith(".")]
    return sorted(tars, key=lambda path: (len(path.stem), path.stem))


def _list_shards(folder: Path) -> list[Path]:
    """Return the shards of a part; ValueError where they differ from the number that is written beside them."""
    tars = _list_tars(folder)
    counted = folder / SHARD_COUNT
    if not counted.is_file():
        return tars
    text = _read_lines(counted)[0]
    if text != str(len(tars)):
        raise ValueError(f"{counted} says {text} shards, and {len(tars):,} .tar files are there")
    absent = sorted({f"{number}.tar" for number in range(len(tars))} - {path.name for path in tars})
    if absent:
        raise ValueError(f"{counted} says {text} shards, and {join_first_names(absent)} is missing")
    return tars


def _open_part(shards: Sequence[Path], classes: Sequence[str], cache: Path) -> SplitOnDisk:
    """Return the images of a part's shards; where they lie is written to the cache once."""
    folder = shards[0].parent
    file = cache / f"labelled{INDEX_FORMAT}-{digest_files(shards)}.arrow"
    if not file.is_file():
        progress = show_progress(shards, len(shards), f"reading {folder}", "shards")
        write_index(
            file, TAR_INDEX, (_index_shard(number, shard) for number, shard in enumerate(progress))
        )
    index = read_index(file)
    labels = index["label"].to_numpy()
    if not len(labels):
        raise ValueError(f"{folder} has no samples")
    invalid = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(invalid):
        title = index["title"][int(invalid[0])].as_py()
        accepted = f"{len(classes):,} classes: numbers are 0 to {len(classes) - 1}"
        raise ValueError(f"{title}.cls is {labels[invalid[0]]}, and {CLASS_NAMES} has {accepted}")
    return SplitOnDisk(PackedImageSource(shards, index), labels, str(folder))


def _index_shard(number: int, shard: Path) -> pa.RecordBatch:
    """Return where the images of a shard lie, with their labels; ValueError names a sample that is not complete."""
    rows = []
    with prefix_errors(shard, UNREADABLE_FILES), shard.open("rb") as file:
        for key, members in iterate_samples(file):
            suffixes = [suffix for suffix in IMAGE_SUFFIXES if suffix in members]
            if not suffixes:
                raise ValueError(f"sample {key} has no image ({', '.join(IMAGE_SUFFIXES)})")
            if "cls" not in members:
                raise ValueError(f"sample {key} has no .cls member")
            image = members[suffixes[0]]
            label = _read_label(file.fileno(), members["cls"], key)
            title = f"{shard}: {key}"
            rows.append(
                {
                    "file": number,
                    "offset": image.offset,
                    "size": image.size,
                    "title": title,
                    "label": label,
                }
            )
    return pa.RecordBatch.from_pylist(rows, TAR_INDEX)


def _read_label(descriptor: int, member: Member, key: str) -> int:
    content = os.pread(descriptor, min(member.size, MAX_LABEL_BYTES), member.offset).strip()
    if not re.fullmatch(rb"-?\d{1,18}", content):
        raise ValueError(
            f"{key}.cls is {content.decode(errors='replace')!r}, expected is the number of a class"
        )
    return int(content)
