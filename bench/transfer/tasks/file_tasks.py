"""Build a task from labelled images on disk: split it, leave out unreadable images, and require every class."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.transfer.families.folders import LAYOUT
from bench.transfer.tasks.image_sources import (
    IMAGE_SUFFIXES,
    ArrayImageSource,
    FileImageSource,
    PackedImageSource,
    join_first_names,
    readable_rows,
)
from bench.transfer.tasks.tasks import VALIDATION_SHARE, LabelledImages, SingleLabelTask

TEST_SHARE = 0.2
PART_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
IMAGENET_CLASSES = 1000


@dataclass(frozen=True, slots=True, eq=False)
class SplitOnDisk(LabelledImages):
    """A part as it lies on disk."""

    images: FileImageSource | PackedImageSource | ArrayImageSource
    title: str  # in messages

    def select(self, rows: Sequence[int], title: str) -> "SplitOnDisk":
        return SplitOnDisk(
            self.images.select(rows), self.labels[np.asarray(rows, dtype=int)], title
        )


def make_task(
    name: str, classes: Sequence[str], parts: Mapping[str, SplitOnDisk], cache: Path
) -> SingleLabelTask:
    """Build a task from the parts `train`, `validation` and `test` that are on disk.

    With only one part beside `train`, this part is the test part. A part alone is split. A missing part is held out
    from `train`, class by class. Unreadable images are left out.

    Raises ValueError for a single class, parts without `train`, a part that lacks a class, a class too small to split,
    or too many unreadable files.
    """
    if len(classes) == 1:
        raise ValueError(
            f"{name}: all images are of one class, {classes[0]!r}: there is nothing to tell apart"
        )
    parts = dict(parts)
    notes = list[str]()
    if "train" not in parts:
        if len(parts) > 1:
            raise ValueError(
                f"{name} has the parts {' and '.join(parts)} and no train part to learn from"
            )
        (only_part,) = parts.values()
        parts = {"train": only_part}
        notes.append(f"{name}: there is no train part, so that {only_part.title} is split")
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    for part_name, part in parts.items():
        if not isinstance(part.images, ArrayImageSource):
            rows, reports = readable_rows(
                part.images.rgb, len(part.images), part.images.files, cache, part.title
            )
            parts[part_name] = part.select(rows, part.title)
            notes += reports
    for part_name, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if part_name not in parts:
            train = parts["train"]
            parts["train"], parts[part_name] = _hold_out(name, classes, train, part_name, share)
            notes.append(
                f"{name}: no {part_name} part is there; {len(parts[part_name].labels):,} of {len(train.labels):,} "
                f"images of {train.title} are set aside for it, {share:.0%} of each class"
            )
    for part in parts.values():
        _require_every_class(name, classes, part)
    return SingleLabelTask(
        name, tuple(classes), parts["train"], parts["validation"], parts["test"], notes=tuple(notes)
    )


def _require_every_class(name: str, classes: Sequence[str], part: SplitOnDisk) -> None:
    labels = set(part.labels.tolist())
    absent = [class_name for label, class_name in enumerate(classes) if label not in labels]
    if absent:
        raise ValueError(
            f"{name}: {part.title} has {len(part.labels):,} readable images of {len(classes):,} classes, "
            f"and none of {format_classes(absent)}; every part needs every class"
        )


def _hold_out(
    name: str, classes: Sequence[str], part: SplitOnDisk, held_out_name: str, share: float
) -> tuple[SplitOnDisk, SplitOnDisk]:
    """Return the remaining and the held-out part: a share of each class, at least one image, chosen by a hash."""
    counts = np.bincount(part.labels, minlength=len(classes))
    small_classes = [
        class_name for class_name, count in zip(classes, counts, strict=True) if count <= 1
    ]
    if small_classes:
        raise ValueError(
            f"{name}: {part.title} has {len(part.labels):,} images of {len(classes):,} classes, and fewer than two "
            f"of {format_classes(small_classes)}: too few to set some aside for {held_out_name}"
        )
    held_out = list[int]()
    for label, count in enumerate(counts):
        rows = np.flatnonzero(part.labels == label).tolist()
        rows.sort(key=lambda row: hashlib.sha256(str(row).encode()).digest())
        held_out += rows[: max(1, round(int(count) * share))]
    rest = sorted({*range(len(part.labels))} - {*held_out})
    return part.select(rest, part.title), part.select(
        sorted(held_out), f"what is set aside of {part.title}"
    )


def format_classes(classes: Sequence[str]) -> str:
    """Name the first of some classes."""
    return f"class{'es' if len(classes) > 1 else ''} {join_first_names([*map(repr, classes)])}"


def folder_task(name: str, root: Path, cache: Path) -> SingleLabelTask:
    """Read "imagefolder" or "imagenet" from a folder; the ValueError shows the layout, or the classes that differ."""
    folders = find_part_folders(root)
    if folders and "train" not in folders:
        names = ", ".join(folder.name for folder in folders.values())
        raise ValueError(f"{root} has {names} and no train; expected is {LAYOUT}")
    folders = folders or {"train": root}
    files = {part: _list_images(folder) for part, folder in folders.items()}
    if not any(files["train"].values()):
        raise ValueError(
            f"{folders['train']} has no class folder with images; expected is {LAYOUT}"
        )
    classes = sorted({class_name for images in files.values() for class_name in images})
    if name == "imagenet" and len(classes) != IMAGENET_CLASSES:
        raise ValueError(
            f"{folders['train']} has {len(classes):,} class folders, ImageNet-1k has {IMAGENET_CLASSES:,}; "
            "any other folder is --task imagefolder"
        )
    parts = {}
    for part, folder in folders.items():
        images = [
            (path, label)
            for label, class_name in enumerate(classes)
            for path in files[part].get(class_name, [])
        ]
        labels = np.array([label for _, label in images], dtype=int)
        parts[part] = SplitOnDisk(
            FileImageSource([path for path, _ in images]), labels, str(folder)
        )
    return make_task(name if name == "imagenet" else root.name, classes, parts, cache)


def find_part_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the parts that are on disk."""
    folders = {}
    for part, names in PART_FOLDERS.items():
        present = [root / name for name in names if (root / name).is_dir()]
        if present:
            folders[part] = present[0]
    return folders


def _list_images(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class folder, which may have none."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; expected is {LAYOUT}")
    return {
        class_folder.name: sorted(
            path for path in class_folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES
        )
        for class_folder in folder.iterdir()
        if class_folder.is_dir() and not class_folder.name.startswith(".")
    }
