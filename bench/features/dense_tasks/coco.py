"""COCO's layout as a multi-label task and as a detection task."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from jaxtyping import Bool

from bench.environment.files import decode_json, prefix_errors, read_limited
from bench.features.dense_tasks.detection import (
    PUBLISHED,
    Annotated,
    DetectionTask,
    ObjectAnnotations,
    import_pycocotools,
)
from bench.features.dense_tasks.layouts import COCO_LAYOUT, describe_layout_error
from bench.features.dense_tasks.multi_label_tasks import (
    MultiLabelPart,
    MultiLabelTask,
    build_task_from_files,
    split_train_validation,
)
from bench.transfer.tasks.image_sources import FileImageSource, join_first_names, readable_rows

MAX_BYTES = 2**31  # of an annotations file; COCO's largest has 0.45 GB
T = TypeVar("T", bound="Instances")
FEWEST_NUMBERS = 6  # coordinates of a polygon: three corners


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


def coco_labels(root: Path, cache: Path) -> MultiLabelTask:
    """Read COCO: an image has the classes of its annotations, including crowds, as in CatLIP's code.

    The validation part is held out from `train`; `val` is the test part. Images without annotations show no class.
    Raises ValueError for missing files, or files that contradict each other.
    """
    classes, train, notes = _read_labels(root, "train")
    test_classes, test, more = _read_labels(root, "val")
    if test_classes != classes:
        differing = sorted({*classes} ^ {*test_classes}) or ["their order"]
        raise ValueError(
            f"{root}: train and val have other categories: they differ in {join_first_names(differing)}"
        )
    return build_task_from_files("COCO", classes, train, None, test, notes + more, cache)


def read_instances(path: Path, kind: type[T]) -> T:
    """Read an annotations file; ValueError for a file that is too large, is not JSON, or contradicts itself."""
    content = read_limited(path, MAX_BYTES)
    with prefix_errors(path):
        instances = decode_json(content, kind)
    annotations = instances.annotations
    image_ids = [image.id for image in instances.images]
    category_ids = [category.id for category in instances.categories]
    _check_ids(path, "image", image_ids, {annotation.image_id for annotation in annotations})
    _check_ids(
        path, "category", category_ids, {annotation.category_id for annotation in annotations}
    )
    return instances


def _check_ids(path: Path, kind: str, ids: Sequence[int], annotated: set[int]) -> None:
    """Raise ValueError for no ids, repeated ids, or annotations of an id that is not listed."""
    if not ids:
        raise ValueError(f"{path}: holds no {kind}")
    repeated = [number for number, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: {kind} ids occur twice: {join_first_names(repeated)}")
    unlisted = sorted(annotated.difference(ids))
    if unlisted:
        raise ValueError(
            f"{path}: annotations name {kind} ids that it does not list: {join_first_names(unlisted)}"
        )


def find_split(root: Path, split: str) -> tuple[Path, Path]:
    """Return a split's annotations file and image folder; the ValueError shows the expected layout."""
    files = sorted((root / "annotations").glob(f"instances_{split}*.json"))
    if len(files) != 1:
        lacks = f"annotations/instances_{split}*.json is {'not there' if not files else 'there more than once'}"
        raise ValueError(describe_layout_error(root, lacks, COCO_LAYOUT))
    folder = root / files[0].stem.removeprefix("instances_")
    if not folder.is_dir():
        raise ValueError(describe_layout_error(root, f"{folder.name}/ is not there", COCO_LAYOUT))
    return files[0], folder


def image_paths(instances: Instances, file: Path, folder: Path) -> list[Path]:
    """Return the image files; ValueError where some are missing."""
    names = {path.name for path in folder.iterdir()}
    missing = [image.file_name for image in instances.images if image.file_name not in names]
    if missing:
        raise ValueError(
            f"{file} lists {len(missing)} images that are not in {folder}: {join_first_names(missing)}"
        )
    return [folder / image.file_name for image in instances.images]


def _read_labels(root: Path, split: str) -> tuple[tuple[str, ...], MultiLabelPart, list[str]]:
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
    notes = []
    if without:
        names = join_first_names(without)
        notes.append(
            f"{file.name}: {len(without):,} images have no annotation and show no class: {names}"
        )
    if extra:
        notes.append(
            f"{file.name}: {len(extra):,} images of {folder} are not listed: {join_first_names(extra)}"
        )
    part = MultiLabelPart(FileImageSource(paths), labels, unjudged=np.zeros_like(labels))
    return tuple(category.name for category in instances.categories), part, notes


class _RunLengths(msgspec.Struct):
    """A run-length encoded mask; `counts` is compressed where it is a string."""

    size: tuple[int, int]
    counts: list[int] | str


class _Object(Annotation):
    bbox: tuple[float, float, float, float]  # left, top, width, height
    segmentation: list[list[float]] | _RunLengths  # polygons, or run lengths
    iscrowd: int = 0


class _Objects(Instances):
    annotations: list[_Object]  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False)
class CocoFiles:
    """Images and their objects, decoded on access."""

    annotations: Path  # the file
    images: FileImageSource
    objects: Sequence[Sequence[_Object]]  # of each image
    label_of: Mapping[int, int]  # from 1, by category id

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, row: int) -> Annotated:
        """Decode an image and its objects; ValueError names an image whose masks do not fit.

        UnreadableImageError where the image cannot be decoded.
        """
        rgb = self.images.rgb(row)
        height, width = rgb.shape[1:]
        boxes = []
        masks = []
        for instance in self.objects[row]:
            left, top, box_width, box_height = instance.bbox
            boxes.append((left, top, left + box_width, top + box_height))
            masks.append(_decode_mask(instance.segmentation, height, width, self.images.files[row]))
        labels = [self.label_of[instance.category_id] for instance in self.objects[row]]
        crowd = [bool(instance.iscrowd) for instance in self.objects[row]]
        return rgb, ObjectAnnotations(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            masks=torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, height, width)),
            crowd=torch.tensor(crowd, dtype=torch.bool),
        )

    def select(self, rows: Sequence[int]) -> "CocoFiles":
        objects = [self.objects[row] for row in rows]
        return CocoFiles(self.annotations, self.images.select(rows), objects, self.label_of)


def coco_detection(root: Path, cache: Path) -> DetectionTask:
    """Read COCO: train on `train`, from which the validation part is held out, and test on `val`.

    Unreadable images and polygons of fewer than three corners are left out. Raises ValueError for missing or
    contradictory files.
    """
    import_pycocotools("mask")  # a missing pycocotools is reported before the large files are read
    notes = list[str]()
    train, classes = _read_objects(root, "train", notes)
    test, test_classes = _read_objects(root, "val", notes)
    if classes != test_classes:
        raise ValueError(f"{root}: train and val have other categories")
    rows, held_rows = split_train_validation("coco", [path.name for path in train.images.files])
    parts = {"train": train.select(rows), "validation": train.select(held_rows), "test": test}
    for name, part in parts.items():
        files = [*part.images.files, part.annotations]
        rows, note = readable_rows(
            part.__getitem__, len(part), files, cache, f"coco {name}", "boxes and masks"
        )
        parts[name] = part.select(rows)
        notes += note
    return DetectionTask(
        "coco",
        classes,
        parts["train"],
        parts["validation"],
        parts["test"],
        PUBLISHED,
        notes=tuple(notes),
    )


def _read_objects(root: Path, split: str, notes: list[str]) -> tuple[CocoFiles, tuple[str, ...]]:
    """Return a split's images and objects, and its classes; append a note on polygons that are left out."""
    file, folder = find_split(root, split)
    instances = read_instances(file, _Objects)
    categories = sorted(instances.categories, key=lambda category: category.id)
    objects_of_image: dict[int, list[_Object]] = defaultdict(list)
    num_flat = 0
    for instance in instances.annotations:
        if min(instance.bbox[2:]) <= 0:  # COCO has some empty boxes
            continue
        if isinstance(instance.segmentation, list):
            polygons = [
                polygon for polygon in instance.segmentation if len(polygon) >= FEWEST_NUMBERS
            ]
            num_flat += len(instance.segmentation) - len(polygons)
            instance.segmentation = polygons
        objects_of_image[instance.image_id].append(instance)
    if not objects_of_image:
        raise ValueError(f"{file} has no object")
    if num_flat:
        notes.append(
            f"{file}: {num_flat:,} polygons have fewer than three corners; they are left out"
        )
    objects = [objects_of_image[image.id] for image in instances.images]
    label_of = {category.id: label for label, category in enumerate(categories, start=1)}
    files = CocoFiles(
        file, FileImageSource(image_paths(instances, file, folder)), objects, label_of
    )
    return files, tuple(category.name for category in categories)


def _decode_mask(
    segmentation: list[list[float]] | _RunLengths, height: int, width: int, path: Path
) -> Bool[np.ndarray, "height width"]:
    tool: Any = import_pycocotools("mask")
    if segmentation == []:
        raise ValueError(f"an object in {path} has no mask")
    if isinstance(segmentation, list):
        if any(len(polygon) % 2 for polygon in segmentation):
            raise ValueError(
                f"an object in {path} has a polygon of an odd number of numbers, not of pairs"
            )
        runs = tool.merge(tool.frPyObjects(segmentation, height, width))
    else:
        if segmentation.size != (height, width):
            of_mask = f"{segmentation.size[1]} x {segmentation.size[0]}"
            raise ValueError(
                f"{path} has {width} x {height} px, the mask of an object in it {of_mask}"
            )
        runs = msgspec.to_builtins(segmentation)
        if isinstance(segmentation.counts, list):
            runs = tool.frPyObjects(runs, height, width)
    try:
        return np.asarray(tool.decode(runs), dtype=bool)
    except ValueError as error:
        raise ValueError(f"the mask of an object in {path} is not read: {error}") from None
