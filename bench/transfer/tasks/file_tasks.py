"""Build a task from labelled images on disk, or from image folders: one per part, with one folder per class.

A task is split, every part must have every class, and unreadable files are dropped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.transfer.families.folders import LAYOUT
from bench.transfer.tasks.image_sources import (
    IMAGE_SUFFIXES,
    ArrayImageSource,
    FileImageSource,
    join_first_names,
    readable_rows,
)
from bench.transfer.tasks.packed_images import PackedImageSource
from bench.transfer.tasks.tasks import VALIDATION_SHARE, LabelledImages, SingleLabelTask

TEST_SHARE = 0.2
PART_FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
IMAGENET_CLASSES = 1000
Files = dict[str, list[Path]]  # by class


@dataclass(frozen=True, slots=True, eq=False)
class SplitOnDisk(LabelledImages):
    """A part as it lies on disk."""

    images: FileImageSource | PackedImageSource | ArrayImageSource
    title: str  # in messages

    def select(self, rows: Sequence[int], title: str) -> "SplitOnDisk":
        return SplitOnDisk(self.images.select(rows), self.labels[np.asarray(rows, dtype=int)], title)


def make_task(
    name: str,
    classes: Sequence[str],
    train: SplitOnDisk,
    validation: SplitOnDisk | None,
    test: SplitOnDisk | None,
    cache: Path,
) -> SingleLabelTask:
    """Build a task; a missing test or validation part is held out from `train`, class by class.

    Raises ValueError for a single class, a part without some class, a class too small to split, or too many unreadable
    files.
    """
    if len(classes) == 1:
        raise ValueError(f"{name}: all images are of one class, {classes[0]!r}: there is nothing to tell apart")
    notes, parts = list[str](), dict[str, SplitOnDisk]()
    for what, part in (("train", train), ("validation", validation), ("test", test)):
        if part is None:
            continue
        parts[what] = part
        if not isinstance(part.images, ArrayImageSource):
            rows, note = readable_rows(part.images.rgb, len(part.images), part.images.files, cache, part.title)
            parts[what], notes = part.select(rows, part.title), notes + note
    for what, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if what not in parts:
            whole = parts["train"]
            parts["train"], parts[what] = _hold_out(name, classes, whole, what, share)
            notes.append(
                f"{name}: no {what} part is there; {len(parts[what].labels):,} of {len(whole.labels):,} images of "
                f"{whole.title} are set aside for it, {share:.0%} of each class"
            )
    for part in parts.values():
        if absent := sorted({*range(len(classes))} - {*part.labels.tolist()}):
            raise ValueError(
                f"{name}: {part.title} has {len(part.labels):,} readable images of {len(classes):,} classes, "
                f"and none of {format_classes([classes[label] for label in absent])}; every part needs every class"
            )
    return SingleLabelTask(name, tuple(classes), parts["train"], parts["validation"], parts["test"], notes=tuple(notes))


def _hold_out(
    name: str, classes: Sequence[str], found: SplitOnDisk, what: str, share: float
) -> tuple[SplitOnDisk, SplitOnDisk]:
    """Return the remaining and the held-out part: a share of each class, at least one image, chosen by a hash."""
    counts = np.bincount(found.labels, minlength=len(classes))
    if small := [one for one, count in zip(classes, counts, strict=True) if count < 2]:  # noqa: PLR2004
        raise ValueError(
            f"{name}: {found.title} has {len(found.labels):,} images of {len(classes):,} classes, and fewer than two "
            f"of {format_classes(small)}: too few to set some aside for {what}"
        )
    chosen = list[int]()
    for label in range(len(classes)):
        rows = np.flatnonzero(found.labels == label).tolist()
        rows.sort(key=lambda row: hashlib.sha256(str(row).encode()).digest())
        chosen += rows[: max(1, round(len(rows) * share))]
    rest = sorted({*range(len(found.labels))} - {*chosen})
    return found.select(rest, found.title), found.select(sorted(chosen), f"what is set aside of {found.title}")


def format_classes(classes: Sequence[str]) -> str:
    """Name the first of some classes."""
    return f"class{'es' if len(classes) > 1 else ''} {join_first_names([*map(repr, classes)])}"


def folder_task(name: str, root: Path, cache: Path) -> SingleLabelTask:
    """Read "imagefolder" or "imagenet" from a folder; the ValueError shows the layout, or the classes that differ."""
    folders = find_part_folders(root)
    if "train" not in folders:
        if folders:
            names = ", ".join(folder.name for folder in folders.values())
            raise ValueError(f"{root} has {names} and no train; expected is {LAYOUT}")
        folders = {"train": root}
    files = {part: _list_images(folder) for part, folder in folders.items()}
    if not files["train"]:
        raise ValueError(f"{folders['train']} has no class folder with images; expected is {LAYOUT}")
    classes = sorted(files["train"])
    _require_same_classes(folders, files)
    if name == "imagenet" and len(classes) != IMAGENET_CLASSES:
        raise ValueError(
            f"{folders['train']} has {len(classes):,} class folders, ImageNet-1k has {IMAGENET_CLASSES:,}; "
            "any other folder is --task imagefolder"
        )
    parts = {part: _make_part(folder, files[part], classes) for part, folder in folders.items()}
    return make_task_from_splits(name if name == "imagenet" else root.name, classes, parts, cache)


def find_part_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the parts that are there."""
    candidates = {part: [root / folder for folder in names] for part, names in PART_FOLDERS.items()}
    there = {part: [folder for folder in folders if folder.is_dir()] for part, folders in candidates.items()}
    return {part: found[0] for part, found in there.items() if found}


def make_task_from_splits(
    name: str, classes: Sequence[str], parts: Mapping[str, SplitOnDisk], cache: Path
) -> SingleLabelTask:
    """Build a task from the parts `train`, `val` and `test` that are there.

    With only one part beside `train`, that part is reported and the validation part is held out from `train`. A part
    alone is split. Raises ValueError as `make_task`, or for two parts without `train`.
    """
    if "train" not in parts:
        if len(parts) > 1:
            raise ValueError(f"{name} has the parts {' and '.join(parts)} and no train part to learn from")
        (whole,) = parts.values()
        task = make_task(name, classes, whole, None, None, cache)
        return replace(task, notes=(f"{name}: there is no train part, so that {whole.title} is split", *task.notes))
    validation, test = (parts.get("val"), parts["test"]) if "test" in parts else (None, parts.get("val"))
    return make_task(name, classes, parts["train"], validation, test, cache)


def _list_images(folder: Path) -> Files:
    """Return the images of each class folder that has any."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; expected is {LAYOUT}")
    found = {
        within.name: sorted(path for path in within.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        for within in sorted(folder.iterdir())
        if within.is_dir()
    }
    return {name: paths for name, paths in found.items() if paths}


def _require_same_classes(folders: Mapping[str, Path], files: Mapping[str, Files]) -> None:
    """Raise ValueError where a part lacks a class that another part has, or has a class folder without images."""
    for part in files:
        for one, other in (("train", part), (part, "train")):
            if lacking := sorted({*files[one]} - {*files[other]}):
                raise ValueError(f"{folders[one]} has images of {format_classes(lacking)}, {folders[other]} has none")
    for folder in folders.values():
        for within in sorted(folder.iterdir()):
            if within.is_dir() and within.name not in files["train"] and not within.name.startswith("."):
                raise ValueError(f"{within} is a class folder without images ({', '.join(IMAGE_SUFFIXES)})")


def _make_part(folder: Path, files: Files, classes: Sequence[str]) -> SplitOnDisk:
    paths = [path for name in classes for path in files[name]]
    labels = np.repeat(np.arange(len(classes)), [len(files[name]) for name in classes])
    return SplitOnDisk(FileImageSource(paths), labels, str(folder))
