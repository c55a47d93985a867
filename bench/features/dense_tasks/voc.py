"""Pascal VOC's layout as a multi-label task."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

import numpy as np

from bench.environment.files import prefix_errors, read_limited
from bench.features.dense_tasks.layouts import VOC_LABELS_LAYOUT, describe_layout_error
from bench.features.dense_tasks.multi_label_tasks import (
    MultiLabelPart,
    MultiLabelTask,
    build_task_from_files,
)
from bench.transfer.tasks.image_sources import FileImageSource, join_first_names

MAX_ANNOTATION_BYTES = 2**20  # VOC's annotations have some kB
MAX_LIST_BYTES = 2**26  # of a list of images or classes
# In the list of a class: the image shows the class, shows it only in objects marked as difficult, does not show it.
SHOWN = "1"
DIFFICULT = "0"
NOT_SHOWN = "-1"
# By image, by class shown: whether all its objects are difficult.
Judgements = dict[str, dict[str, bool]]


def voc_labels(root: Path, cache: Path) -> MultiLabelTask:
    """Read Pascal VOC: train, validate and test on its `train`, `val` and `test`.

    Where `test` has no labels (2012), `val` is the test part and the validation part is held out from `train`. Classes
    are read from their own lists, or else from the annotations. Where all objects of a class are difficult, the image
    counts neither way for the class, as in the challenge. Raises ValueError for missing or contradictory files.
    """
    lists = root / "ImageSets" / "Main"
    for split in ("train", "val"):
        _require_file(root, lists / f"{split}.txt")
    splits = ["train", "val"]
    if (lists / "test.txt").is_file():
        splits.append("test")
    classes = sorted(path.name.removesuffix("_train.txt") for path in lists.glob("*_train.txt"))
    judgements = {}
    for split in splits:
        names = read_image_list(lists / f"{split}.txt")
        judgements[split] = (
            _read_class_lists(root, split, names, classes)
            if classes
            else _read_annotations(root, names)
        )
    if not classes:
        classes = sorted({name for shown in judgements["train"].values() for name in shown})
    parts = {
        split: _make_part(root, split, images, classes) for split, images in judgements.items()
    }
    notes = [
        f"VOC {split}: {len(part.labels):,} images, {(~part.labels.any(axis=1)).sum():,} show no class; "
        f"{part.unjudged.sum():,} pairs of image and class are left out, their objects being difficult"
        for split, part in parts.items()
    ]
    validation = parts["val"] if "test" in parts else None
    test = parts.get("test", parts["val"])
    return build_task_from_files(
        "VOC", tuple(classes), parts["train"], validation, test, notes, cache
    )


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
    objects = []
    for element in annotation.findall("object") if annotation.tag == "annotation" else []:
        name = element.findtext("name", "").strip()
        if not name:
            raise ValueError(f"{path}: an object has no name")
        objects.append((name, element.findtext("difficult", "0").strip() == "1"))
    return objects


class _NoDoctypeBuilder(ET.TreeBuilder):
    def doctype(self, *_: object) -> NoReturn:
        raise ValueError("a document type is refused: annotations need none")


def _read_class_lists(
    root: Path, split: str, names: Sequence[str], classes: Sequence[str]
) -> Judgements:
    """Read the list of each class, which judges every image of the split."""
    judgements: Judgements = {name: {} for name in names}
    for class_name in classes:
        path = root / "ImageSets" / "Main" / f"{class_name}_{split}.txt"
        _require_file(root, path)
        judged = set()
        for line in read_image_list(path):
            name, *values = line.split()
            if values not in ([SHOWN], [DIFFICULT], [NOT_SHOWN]):
                raise ValueError(f"{path}: a line is an image and 1, 0 or -1, got {line}")
            judged.add(name)
            if name in judgements and values != [NOT_SHOWN]:
                judgements[name][class_name] = values == [DIFFICULT]
        differing = sorted(judged ^ judgements.keys())
        if differing:
            raise ValueError(
                f"{path} and {split}.txt name other images: {join_first_names(differing)}"
            )
    return judgements


def _read_annotations(root: Path, names: Sequence[str]) -> Judgements:
    judgements: Judgements = {}
    for name in names:
        file = root / "Annotations" / f"{name}.xml"
        _require_file(root, file)
        judgements[name] = {}
        for class_name, is_difficult in read_objects(file):
            judgements[name][class_name] = is_difficult and judgements[name].get(class_name, True)
    return judgements


def _make_part(
    root: Path, split: str, judgements: Mapping[str, Mapping[str, bool]], classes: list[str]
) -> MultiLabelPart:
    labels = np.zeros((len(judgements), len(classes)), dtype=bool)
    unjudged = np.zeros_like(labels)
    paths = []
    for row, (name, shown) in enumerate(judgements.items()):
        for class_name, is_difficult in shown.items():
            if class_name not in classes:
                raise ValueError(
                    f"{root}: {name} of {split} shows {class_name!r}, which no image of train shows"
                )
            (unjudged if is_difficult else labels)[row, classes.index(class_name)] = True
        paths.append(root / "JPEGImages" / f"{name}.jpg")
        _require_file(root, paths[-1])
    return MultiLabelPart(FileImageSource(paths), labels, unjudged)


def _require_file(root: Path, path: Path) -> None:
    """Raise ValueError with the expected layout if a file is missing."""
    if not path.is_file():
        raise ValueError(
            describe_layout_error(root, f"{path.relative_to(root)} is not there", VOC_LABELS_LAYOUT)
        )


def read_text_lines(path: Path) -> list[str]:
    """Return a list's non-empty lines; ValueError for a file that is too large, not regular or not UTF-8."""
    content = read_limited(path, MAX_LIST_BYTES)
    with prefix_errors(path):
        text = content.decode()
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_image_list(path: Path) -> list[str]:
    """Return a list's lines; ValueError for a file that `read_text_lines` refuses, or that repeats a name."""
    lines = read_text_lines(path)
    counts = Counter(line.split()[0] for line in lines)
    for name, count in counts.items():
        if Path(name).name != name:
            raise ValueError(f"{path}: an image is named without its folder, got {name}")
        if count > 1:
            raise ValueError(f"{path}: names an image twice: {name}")
    return lines
