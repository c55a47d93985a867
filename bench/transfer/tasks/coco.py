"""COCO's layout as a multi-label task."""

from collections import Counter
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from bench.transfer.tasks.multi_label_tasks import ListedFiles, MultiLabelTask, task_of_files
from bench.transfer.tasks.pictures import format_some

MOST_BYTES = 2**31  # of an annotations file; COCO's largest has 0.45 GB
LAYOUT = """{root} is not laid out as COCO is:
  {root}/annotations/instances_train2017.json
  {root}/annotations/instances_val2017.json
  {root}/train2017/*.jpg
  {root}/val2017/*.jpg
(any year in place of 2017); {lacks}"""
T = TypeVar("T", bound="Instances")


class _Image(msgspec.Struct):
    id: int
    file_name: str


class Annotation(msgspec.Struct):
    """The class of one object in an image."""

    image_id: int
    category_id: int


class _Category(msgspec.Struct):
    id: int
    name: str


class Instances(msgspec.Struct):
    """The fields of an annotations file that are read."""

    images: list[_Image]
    annotations: list[Annotation]
    categories: list[_Category]


def coco(root: Path, cache: Path) -> MultiLabelTask:
    """Read COCO: an image has the classes of its annotations, including crowds, as in CatLIP's code.

    The validation part is held out from `train`; `val` is the test part. Images without annotations show no class.
    Raises ValueError for missing files, or files that contradict each other.
    """
    classes, train, notes = _split(root, "train")
    test_classes, test, more = _split(root, "val")
    if test_classes != classes:
        differing = sorted({*classes} ^ {*test_classes}) or ["their order"]
        raise ValueError(f"{root}: train and val have other categories: they differ in {format_some(differing)}")
    return task_of_files("COCO", classes, train, None, test, notes + more, cache)


def read_instances(path: Path, kind: type[T]) -> T:
    """Read an annotations file; ValueError for a file that is too large, is not JSON, or contradicts itself."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: over {MOST_BYTES / 2**30:.0f} GiB")
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    images, categories = [one.id for one in found.images], [one.id for one in found.categories]
    for what, ids in (("image", images), ("category", categories)):
        twice = [one for one, count in Counter(ids).items() if count > 1]
        if twice or not ids:
            raise ValueError(
                f"{path}: {f'{what} ids occur twice: {format_some(twice)}' if twice else f'holds no {what}'}"
            )
    for what, named, listed in (
        ("images", {one.image_id for one in found.annotations}, images),
        ("categories", {one.category_id for one in found.annotations}, categories),
    ):
        if lost := sorted(named.difference(listed)):
            raise ValueError(f"{path}: annotations name {what} that it does not list: {format_some(lost)}")
    return found


def find_split(root: Path, split: str) -> tuple[Path, Path]:
    """Return a split's annotations file and image folder; the ValueError shows the expected layout."""
    files = sorted((root / "annotations").glob(f"instances_{split}*.json"))
    if len(files) != 1:
        lacks = f"annotations/instances_{split}*.json is {'not there' if not files else 'there more than once'}"
        raise ValueError(LAYOUT.format(root=root, lacks=lacks))
    folder = root / files[0].stem.removeprefix("instances_")
    if not folder.is_dir():
        raise ValueError(LAYOUT.format(root=root, lacks=f"{folder.name}/ is not there"))
    return files[0], folder


def image_paths(instances: Instances, file: Path, folder: Path) -> list[Path]:
    """Return the image files; ValueError where some are missing."""
    here = {path.name for path in folder.iterdir()}
    if lost := [image.file_name for image in instances.images if image.file_name not in here]:
        raise ValueError(f"{file} lists {len(lost)} images that are not in {folder}: {format_some(lost)}")
    return [folder / image.file_name for image in instances.images]


def _split(root: Path, split: str) -> tuple[tuple[str, ...], ListedFiles, list[str]]:
    """Return the classes of a split, its images with their labels, and notes on the files."""
    file, folder = find_split(root, split)
    instances = read_instances(file, Instances)
    paths = image_paths(instances, file, folder)
    rows = {image.id: row for row, image in enumerate(instances.images)}
    columns = {category.id: column for column, category in enumerate(instances.categories)}
    labels = np.zeros((len(rows), len(columns)), dtype=bool)
    for annotation in instances.annotations:
        labels[rows[annotation.image_id], columns[annotation.category_id]] = True
    without = [path.name for path, row in zip(paths, labels, strict=True) if not row.any()]
    extra = sorted({path.name for path in folder.iterdir()} - {path.name for path in paths})
    notes = [
        f"{file.name}: {len(names):,} images {what}: {format_some(names)}"
        for names, what in ((without, "have no annotation and show no class"), (extra, f"of {folder} are not listed"))
        if names
    ]
    return tuple(one.name for one in instances.categories), ListedFiles(paths, labels, np.zeros_like(labels)), notes
