"""Tasks in files: class folders, or tars as CLIP_benchmark writes them.

Source of the tars: `build_wds_dataset` and `convert_dataset` of LAION-AI/CLIP_benchmark 48de38c.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.console.progress import iterate_with_progress_bar
from bench.data.paths import UNREADABLE
from bench.data.tar_samples import index_tar_samples
from bench.environment.files import prefix_errors, read_bytes_unless_larger
from bench.interfaces.catalog import DEFAULT_ROOT_TASK
from bench.transfer.families import LAYOUT
from bench.transfer.tasks.image_sources import IMAGE_SUFFIXES, EncodedImageSource
from bench.transfer.tasks.tasks import VALIDATION_SHARE, LabelledImages, SingleLabelTask

TEST_SHARE = 0.2
PART_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
CLASS_NAMES = "classnames.txt"
SHARD_COUNT = "nshards.txt"
MAX_LABEL_BYTES = 32  # of a .cls member


def load_file_task(name: str, root: Path, _cache: Path) -> SingleLabelTask:
    """Load the task of a named data set from `root/NAME`, or from `root` if there is no such folder.

    The task of `DEFAULT_ROOT_TASK` has the name of the folder. ValueError for another layout than class folders or
    tars, or for missing classes.
    """
    if name == DEFAULT_ROOT_TASK:
        return _read_task(root.name, root)
    folder = root / name
    return _read_task(name, folder if folder.is_dir() else root)


def _read_task(name: str, root: Path) -> SingleLabelTask:
    """Return the task in a folder: of tars if a part has any, else of class folders."""
    folders = {}
    for part, names in PART_FOLDERS.items():
        existing = [root / name for name in names if (root / name).is_dir()]
        if existing:
            folders[part] = existing[0]
    folders = folders or {"train": root}
    shards = {part: _list_shards(folder) for part, folder in folders.items()}
    parts = {}
    if any(shards.values()):
        classes = read_bytes_unless_larger(root / CLASS_NAMES).decode().splitlines()
        for part, shards_of_part in shards.items():
            if shards_of_part:
                parts[part] = _locate_images_in_shards(shards_of_part, len(classes))
    else:
        images = {part: _list_images_by_class(folder) for part, folder in folders.items()}
        classes = sorted(set[str]().union(*images.values()))
        for part, images_by_class in images.items():
            parts[part] = _label_images(images_by_class, classes)
    if len(classes) <= 1:
        raise ValueError(f"{root} has images of {len(classes)} classes; expected is {LAYOUT}")
    return _make_task_from_parts(name, classes, parts)


def _list_images_by_class(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class folder, sorted, by the name of the class."""
    images = {}
    for class_folder in folder.iterdir():
        if class_folder.is_dir() and not class_folder.name.startswith("."):
            files = sorted(class_folder.rglob("*"))
            images[class_folder.name] = [
                path for path in files if path.suffix.lower() in IMAGE_SUFFIXES
            ]
    return images


def _label_images(
    images_by_class: Mapping[str, Sequence[Path]], classes: Sequence[str]
) -> LabelledImages:
    """Return the images of a part with their class numbers, class by class; a class may have none."""
    files = list[Path]()
    labels = list[int]()
    for label, class_name in enumerate(classes):
        images_of_class = images_by_class.get(class_name, [])
        files += images_of_class
        labels += [label] * len(images_of_class)
    return LabelledImages(EncodedImageSource(files), np.array(labels, dtype=int))


def _list_shards(folder: Path) -> list[Path]:
    """Return the tars of a folder in the order of their numbers; ValueError where some are missing."""
    shards = [path for path in folder.glob("*.tar") if not path.name.startswith(".")]
    counted = folder / SHARD_COUNT
    if counted.is_file():
        count = counted.read_text().strip()
        if count != str(len(shards)):
            raise ValueError(f"{counted} says {count} shards, and {len(shards)} are there")
    return sorted(shards, key=lambda path: (len(path.stem), path.stem))


def _locate_images_in_shards(shards: Sequence[Path], num_classes: int) -> LabelledImages:
    """Return the byte ranges of the images in a part's shards, with their class numbers."""
    files = []
    ranges = []
    labels = []
    for shard in iterate_with_progress_bar(
        shards, len(shards), f"reading {shards[0].parent}", "shards"
    ):
        with prefix_errors(shard, UNREADABLE), shard.open("rb") as file:
            for key, members in index_tar_samples(file):
                suffixes = [suffix for suffix in IMAGE_SUFFIXES if suffix[1:] in members]
                if not suffixes or "cls" not in members:
                    raise ValueError(f"sample {key} has no image or no .cls member")
                image = members[suffixes[0][1:]]
                label_file = members["cls"]
                size = min(label_file.size, MAX_LABEL_BYTES)
                label = int(os.pread(file.fileno(), size, label_file.offset))
                if not 0 <= label < num_classes:
                    raise ValueError(
                        f"{key}.cls is {label}, and {CLASS_NAMES} has {num_classes} classes"
                    )
                files.append(shard)
                ranges.append((image.offset, image.size))
                labels.append(label)
    return LabelledImages(EncodedImageSource(files, np.array(ranges)), np.array(labels))


def _make_task_from_parts(
    name: str, classes: Sequence[str], parts: dict[str, LabelledImages]
) -> SingleLabelTask:
    """Build a task from those of the parts `train`, `validation` and `test` that are on disk.

    If `validation` is the only part beside `train`, it is the test part. A single part is split. Images of a missing
    part are set aside from `train`, class by class.
    """
    if len(parts) == 1:
        parts = {"train": next(iter(parts.values()))}
    elif "train" not in parts:
        raise ValueError(f"{name} has the parts {' and '.join(parts)}, and no train part")
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    notes = []
    for part, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if part not in parts:
            rest, held_out = _split_off_share_of_each_class(parts["train"], share)
            parts["train"] = rest
            parts[part] = held_out
            notes.append(
                f"{name}: no {part} part is there; {len(held_out.labels):,} images are set aside for it, "
                f"{share:.0%} of each class"
            )
    for part, images in parts.items():
        present = set(images.labels.tolist())
        for label, class_name in enumerate(classes):
            if label not in present:
                raise ValueError(
                    f"{name}: the {part} part has no image of {class_name!r}; every part needs every class"
                )
    return SingleLabelTask(name=name, classes=tuple(classes), notes=tuple(notes), **parts)


def _split_off_share_of_each_class(
    part: LabelledImages, share: float
) -> tuple[LabelledImages, LabelledImages]:
    """Split off a share of each class, at least one image, chosen by a hash; return the rest and that share."""
    held_out = list[int]()
    for label in np.unique(part.labels):
        rows = np.flatnonzero(part.labels == label).tolist()
        rows.sort(key=_hash_row_number)
        number = max(1, round(len(rows) * share))
        held_out += rows[:number]
    rest = np.delete(np.arange(len(part.labels)), held_out).tolist()
    return part.select(rest), part.select(sorted(held_out))


def _hash_row_number(row: int) -> bytes:
    return hashlib.sha256(str(row).encode()).digest()
