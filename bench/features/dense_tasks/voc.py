"""Pascal VOC's layout as a multi-label task."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

import numpy as np

from bench.environment.files import prefix_errors, read_limited
from bench.features.dense_tasks.layouts import VOC_LABELS_LAYOUT, describe_layout_error
from bench.features.dense_tasks.multi_label_tasks import MultiLabelPart, MultiLabelTask, build_task_from_files
from bench.transfer.tasks.image_sources import FileImageSource, join_first_names

MAX_ANNOTATION_BYTES = 2**20  # VOC's annotations have some kB
MAX_LIST_BYTES = 2**26  # of a list of images or classes
# In the list of a class: the image shows the class, shows it only in objects marked as difficult, does not show it.
SHOWN, DIFFICULT, NOT_SHOWN = "1", "0", "-1"
Judgements = dict[str, dict[str, bool]]  # by image, by class shown: whether all its objects are difficult


def voc_labels(root: Path, cache: Path) -> MultiLabelTask:
    """Read Pascal VOC: train, validate and test on its `train`, `val` and `test`.

    Where `test` has no labels (2012), `val` is the test part and the validation part is held out from `train`. Classes
    are read from their own lists, or else from the annotations. Where all objects of a class are difficult, the image
    counts neither way for the class, as in the challenge. Raises ValueError for missing or contradictory files.
    """
    lists = root / "ImageSets" / "Main"
    splits = [split for split in ("train", "val", "test") if (lists / f"{split}.txt").is_file()]
    if splits[:2] != ["train", "val"]:
        lost = "train.txt" if "train" not in splits else "val.txt"
        raise ValueError(describe_layout_error(root, f"ImageSets/Main/{lost} is not there", VOC_LABELS_LAYOUT))
    names = {split: read_image_list(lists / f"{split}.txt") for split in splits}
    listed = sorted(path.name.removesuffix("_train.txt") for path in lists.glob("*_train.txt"))
    found = {
        split: _read_class_lists(root, split, names[split], listed) if listed else _read_annotations(root, names[split])
        for split in splits
    }
    classes = tuple(listed) or tuple(sorted({one for judged in found["train"].values() for one in judged}))
    parts = {split: _part_of(root, split, names[split], found[split], classes) for split in splits}
    notes = [
        f"VOC {split}: {len(part.labels):,} images, {(~part.labels.any(axis=1)).sum():,} show no class; "
        f"{part.unjudged.sum():,} pairs of image and class are left out, their objects being difficult"
        for split, part in parts.items()
    ]
    validation, test = (parts["val"], parts["test"]) if "test" in parts else (None, parts["val"])
    return build_task_from_files("VOC", classes, parts["train"], validation, test, notes, cache)


def read_objects(path: Path) -> list[tuple[str, bool]]:
    """Return the class of each object in an annotation file, and whether it is marked as difficult.

    A document type is refused, because it could define entities that expand without end or name other files. Raises
    ValueError with the file's name, also for a file of more than 1 MiB.
    """
    content = read_limited(path, MAX_ANNOTATION_BYTES)
    parser = ET.XMLParser(target=_NoDoctypeBuilder())  # noqa: S314 - document types are refused
    with prefix_errors(path, (ET.ParseError, ValueError)):
        parser.feed(content)
        annotation = parser.close()
    objects = annotation.findall("object") if annotation.tag == "annotation" else []
    named = [(one.findtext("name", "").strip(), one.findtext("difficult", "0").strip() == "1") for one in objects]
    if unnamed := [name for name, _ in named if not name]:
        raise ValueError(f"{path}: {len(unnamed)} objects have no name")
    return named


class _NoDoctypeBuilder(ET.TreeBuilder):
    def doctype(self, *_: object) -> NoReturn:
        raise ValueError("a document type is refused: annotations need none")


def _read_class_lists(root: Path, split: str, names: Sequence[str], classes: Sequence[str]) -> Judgements:
    found: Judgements = {name: {} for name in names}
    for one in classes:
        path = root / "ImageSets" / "Main" / f"{one}_{split}.txt"
        if not path.is_file():
            raise ValueError(describe_layout_error(root, f"ImageSets/Main/{path.name} is not there", VOC_LABELS_LAYOUT))
        rows = [line.split() for line in read_image_list(path)]
        if wrong := [" ".join(row) for row in rows if len(row) != 2 or row[1] not in (SHOWN, DIFFICULT, NOT_SHOWN)]:  # noqa: PLR2004
            raise ValueError(f"{path}: a line is an image and 1, 0 or -1, got {join_first_names(wrong)}")
        if differing := sorted({name for name, _ in rows} ^ found.keys()):
            raise ValueError(f"{path} and {split}.txt name other images: {join_first_names(differing)}")
        for name, value in rows:
            if value != NOT_SHOWN:
                found[name][one] = value == DIFFICULT
    return found


def _read_annotations(root: Path, names: Sequence[str]) -> Judgements:
    files = {name: root / "Annotations" / f"{name}.xml" for name in names}
    if lost := [name for name, file in files.items() if not file.is_file()]:
        lacks = f"{len(lost)} images have no file in Annotations: {join_first_names(lost)}"
        raise ValueError(describe_layout_error(root, lacks, VOC_LABELS_LAYOUT))
    found: Judgements = {name: {} for name in names}
    for name, file in files.items():
        for one, is_difficult in read_objects(file):
            found[name][one] = is_difficult and found[name].get(one, True)
    return found


def _part_of(root: Path, split: str, names: Sequence[str], found: Judgements, classes: Sequence[str]) -> MultiLabelPart:
    columns = {one: column for column, one in enumerate(classes)}
    labels, unjudged = (np.zeros((len(names), len(classes)), dtype=bool) for _ in range(2))
    for row, name in enumerate(names):
        for one, is_difficult in found[name].items():
            if one not in columns:
                raise ValueError(f"{root}: {name} of {split} shows {one!r}, which no image of train shows")
            (unjudged if is_difficult else labels)[row, columns[one]] = True
    paths = [root / "JPEGImages" / f"{name}.jpg" for name in names]
    if lost := [path.name for path in paths if not path.is_file()]:
        lacks = f"{split}.txt names {len(lost)} images that are not in JPEGImages: {join_first_names(lost)}"
        raise ValueError(describe_layout_error(root, lacks, VOC_LABELS_LAYOUT))
    return MultiLabelPart(FileImageSource(paths), labels, unjudged)


def read_text_lines(path: Path) -> list[str]:
    """Return a list's non-empty lines; ValueError for a file that is too large, not regular or not UTF-8."""
    content = read_limited(path, MAX_LIST_BYTES)
    with prefix_errors(path):
        text = content.decode()
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_image_list(path: Path) -> list[str]:
    """Return a list's lines; ValueError for a file that `read_text_lines` refuses, or that repeats a name."""
    lines = read_text_lines(path)
    names = [line.split()[0] for line in lines]
    if bad := [name for name in names if Path(name).name != name]:
        raise ValueError(f"{path}: an image is named without its folder, got {join_first_names(bad)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path}: names images twice: {join_first_names(twice)}")
    return lines
