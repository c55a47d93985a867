"""COCO's layout as a task of several labels a picture."""

from collections import Counter
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from bench.transfer.tasks.multi_label_tasks import Listed, MultiLabelTask, some, task_of_files

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
    """Which class an image shows."""

    image_id: int
    category_id: int


class _Category(msgspec.Struct):
    id: int
    name: str


class Instances(msgspec.Struct):
    """What is read of an annotations file."""

    images: list[_Image]
    annotations: list[Annotation]
    categories: list[_Category]


def coco(root: Path, cache: Path) -> MultiLabelTask:
    """Read COCO: a picture has the classes of its annotations, crowds among them, as CatLIP's code has it.

    The validation part is carved from `train`, `val` is the test. Pictures without annotations show no class. Raises
    ValueError for files that are not there or disagree.
    """
    classes, train, notes = _split(root, "train")
    test_classes, test, more = _split(root, "val")
    if test_classes != classes:
        differing = sorted({*classes} ^ {*test_classes}) or ["their order"]
        raise ValueError(f"{root}: train and val have other categories: they differ in {some(differing)}")
    return task_of_files("COCO", classes, train, None, test, notes + more, cache)


def read_instances(path: Path, kind: type[T]) -> T:
    """Read an annotations file; ValueError for one that is too large, is not JSON, or contradicts itself."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: over {MOST_BYTES / 2**30:.0f} GiB")
    try:
        found = msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    for what, ids in (("image", [one.id for one in found.images]), ("category", [one.id for one in found.categories])):
        twice = [one for one, count in Counter(ids).items() if count > 1]
        if twice or not ids:
            raise ValueError(f"{path}: {f'{what} ids occur twice: {some(twice)}' if twice else f'holds no {what}'}")
    for what, asked, there in (
        ("images", {one.image_id for one in found.annotations}, {one.id for one in found.images}),
        ("categories", {one.category_id for one in found.annotations}, {one.id for one in found.categories}),
    ):
        if lost := sorted(asked - there):
            raise ValueError(f"{path}: annotations name {what} that it does not list: {some(lost)}")
    return found


def located(root: Path, split: str) -> tuple[Path, Path]:
    """Return a split's annotations file and its folder of pictures; ValueError says how both have to lie."""
    files = sorted((root / "annotations").glob(f"instances_{split}*.json"))
    if len(files) != 1:
        lacks = f"annotations/instances_{split}*.json is {'not there' if not files else 'there more than once'}"
        raise ValueError(LAYOUT.format(root=root, lacks=lacks))
    folder = root / files[0].stem.removeprefix("instances_")
    if not folder.is_dir():
        raise ValueError(LAYOUT.format(root=root, lacks=f"{folder.name}/ is not there"))
    return files[0], folder


def paths_of(instances: Instances, file: Path, folder: Path) -> list[Path]:
    """Return the pictures' files; ValueError for those that are not there."""
    here = {path.name for path in folder.iterdir()}
    if lost := [image.file_name for image in instances.images if image.file_name not in here]:
        raise ValueError(f"{file} lists {len(lost)} images that are not in {folder}: {some(lost)}")
    return [folder / image.file_name for image in instances.images]


def _split(root: Path, split: str) -> tuple[tuple[str, ...], Listed, list[str]]:
    """Return the classes, the pictures with the classes that each shows, and what to say of them."""
    file, folder = located(root, split)
    instances = read_instances(file, Instances)
    paths = paths_of(instances, file, folder)
    rows = {image.id: row for row, image in enumerate(instances.images)}
    columns = {category.id: column for column, category in enumerate(instances.categories)}
    labels = np.zeros((len(rows), len(columns)), dtype=bool)
    for annotation in instances.annotations:
        labels[rows[annotation.image_id], columns[annotation.category_id]] = True
    without = [path.name for path, row in zip(paths, labels, strict=True) if not row.any()]
    extra = sorted({path.name for path in folder.iterdir()} - {path.name for path in paths})
    notes = [
        f"{file.name}: {len(names):,} images {what}: {some(names)}"
        for names, what in ((without, "have no annotation and show no class"), (extra, f"of {folder} are not listed"))
        if names
    ]
    names = tuple(category.name for category in instances.categories)
    return names, Listed(paths, labels, np.zeros_like(labels)), notes
