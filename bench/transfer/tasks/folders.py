"""Image folders: one folder per part, with one folder per class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.transfer.tasks.pictures import FileImageSource
from bench.transfer.tasks.split import FoundPart, format_classes, make_task
from bench.transfer.tasks.tasks import Task

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
IMAGENET_CLASSES = 1000
LAYOUT = """expected is
  {root}/train/CLASS/IMAGE.jpg   (or .jpeg, .png, .webp)
  {root}/val/CLASS/IMAGE.jpg     (or test; where both are there, val is for tuning and test is reported)
or, to be split by this program,
  {root}/CLASS/IMAGE.jpg"""
Files = dict[str, list[Path]]  # by class


def folder_task(name: str, root: Path, cache: Path) -> Task:
    """Read "imagefolder" or "imagenet" from a folder; the ValueError shows the layout, or the classes that differ.

    With only one part beside `train`, that part is reported and the validation part is held out from `train`.
    """
    candidates = {part: [root / one for one in names if (root / one).is_dir()] for part, names in PARTS.items()}
    folders = {part: found[0] for part, found in candidates.items() if found}
    if "train" not in folders:
        if folders:
            there = ", ".join(folder.name for folder in folders.values())
            raise ValueError(f"{root} has {there} and no train; {LAYOUT.format(root=root)}")
        folders = {"train": root}
    files = {part: _images(folder) for part, folder in folders.items()}
    if not files["train"]:
        raise ValueError(f"{folders['train']} has no class folder with images; {LAYOUT.format(root=root)}")
    classes = sorted(files["train"])
    _require_same_classes(folders, files)
    if name == "imagenet" and len(classes) != IMAGENET_CLASSES:
        raise ValueError(
            f"{folders['train']} has {len(classes):,} class folders, ImageNet-1k has {IMAGENET_CLASSES:,}; "
            "any other folder is --task imagefolder"
        )
    found = {part: _found(folders[part], files[part], classes) for part in folders}
    validation, test = found.get("val"), found.get("test")
    if test is None:
        validation, test = None, validation
    return make_task(name if name == "imagenet" else root.name, classes, found["train"], validation, test, cache)


def _images(folder: Path) -> Files:
    """Return the images of each class folder that has any."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; {LAYOUT.format(root=folder)}")
    found = {
        within.name: sorted(path for path in within.rglob("*") if path.suffix.lower() in SUFFIXES)
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
                raise ValueError(f"{within} is a class folder without images ({', '.join(SUFFIXES)})")


def _found(folder: Path, files: Files, classes: Sequence[str]) -> FoundPart:
    paths = [path for name in classes for path in files[name]]
    labels = np.repeat(np.arange(len(classes)), [len(files[name]) for name in classes])
    return FoundPart(str(folder), FileImageSource(paths), labels)
