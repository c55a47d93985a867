"""Image folders: a folder for each part, in it one for each class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.transfer.tasks.pictures import FilePictures
from bench.transfer.tasks.split import Found, named, task_of
from bench.transfer.tasks.tasks import Task

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
IMAGENET_CLASSES = 1000
LAYOUT = """  {root}/train/CLASS/IMAGE.jpg   (or .jpeg, .png, .webp)
  {root}/val/CLASS/IMAGE.jpg     (test may stand in its place; of both val chooses and test is reported)
or, to be split by this program,
  {root}/CLASS/IMAGE.jpg"""


def folder_task(name: str, root: Path, cache: Path) -> Task:
    """Read "imagefolder" or "imagenet" from a folder; ValueError tells the layout, or what two parts disagree in.

    Where one part beside `train` is there, it is reported, and validation is carved from `train`.
    """
    folders = {part: folder for part, names in PARTS.items() if (folder := _folder(root, names))}
    if "train" not in folders:
        if folders:
            raise ValueError(
                f"{root} has {', '.join(f.name for f in folders.values())} and no train; {_expected(root)}"
            )
        folders = {"train": root}
    files = {part: _images(folder) for part, folder in folders.items()}
    if not files["train"]:
        raise ValueError(f"{folders['train']} has no class folder with images; {_expected(root)}")
    _require_same_classes(folders, files)
    classes = sorted(files["train"])
    _require_no_empty_class(folders, classes)
    if name == "imagenet" and len(classes) != IMAGENET_CLASSES:
        raise ValueError(
            f"{folders['train']} has {len(classes):,} class folders, ImageNet-1k has {IMAGENET_CLASSES:,}; "
            "any other folder is --task imagefolder"
        )
    found = {part: _found(folders[part], files[part], classes) for part in folders}
    validation, test = found.get("val"), found.get("test")
    if test is None:
        validation, test = None, validation
    return task_of(name if name == "imagenet" else root.name, classes, found["train"], validation, test, cache)


def _expected(root: Path) -> str:
    return f"expected is\n{LAYOUT.format(root=root)}"


def _folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _images(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class folder that has any."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; {_expected(folder)}")
    found = {
        within.name: sorted(path for path in within.rglob("*") if path.suffix.lower() in SUFFIXES)
        for within in sorted(folder.iterdir())
        if within.is_dir()
    }
    return {name: paths for name, paths in found.items() if paths}


def _require_same_classes(folders: Mapping[str, Path], files: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    for part in files:
        for one, other in (("train", part), (part, "train")):
            if lacking := sorted({*files[one]} - {*files[other]}):
                raise ValueError(f"{folders[one]} has images of {named(lacking)}, {folders[other]} has none")


def _require_no_empty_class(folders: Mapping[str, Path], classes: Sequence[str]) -> None:
    for folder in folders.values():
        for within in sorted(folder.iterdir()):
            if within.is_dir() and within.name not in classes and not within.name.startswith("."):
                raise ValueError(f"{within} is a class folder without images ({', '.join(SUFFIXES)})")


def _found(folder: Path, files: Mapping[str, Sequence[Path]], classes: Sequence[str]) -> Found:
    paths = [path for name in classes for path in files[name]]
    labels = np.repeat(np.arange(len(classes)), [len(files[name]) for name in classes])
    return Found(str(folder), FilePictures(paths), labels)
