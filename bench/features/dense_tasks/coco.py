"""COCO's layout as a multi-label task and as a detection task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from jaxtyping import Bool

from bench.environment.files import decode_json, prefix_errors, read_bytes_unless_larger
from bench.features.dense_tasks.detection import (
    DetectionTask,
    ImageWithObjects,
    import_pycocotools_module,
)
from bench.features.dense_tasks.layouts import COCO_LAYOUT, require_path_of_layout
from bench.features.dense_tasks.multi_label import MultiLabelTask
from bench.features.dense_tasks.task_files import build_task_with_holdout
from bench.transfer.tasks.image_sources import EncodedImageSource
from bench.transfer.tasks.tasks import LabelledImages

MAX_BYTES = 2**31  # of an annotations file; COCO's largest has 0.45 GB
MIN_POLYGON_LENGTH = 6  # coordinates of three corners


class _CocoImage(msgspec.Struct):
    id: int
    file_name: str


class _CocoCategory(msgspec.Struct):
    id: int
    name: str


class AnnotatedObject(msgspec.Struct):
    """The class of one object in an image."""

    image_id: int
    category_id: int


class _RunLengthMask(msgspec.Struct):
    """A run-length encoded mask; `counts` is compressed where it is a string."""

    size: tuple[int, int]
    counts: list[int] | str


class AnnotatedObjectWithMask(AnnotatedObject):
    """The class, the box and the mask of one object in an image."""

    bbox: tuple[float, float, float, float]  # left, top, width, height
    segmentation: list[list[float]] | _RunLengthMask  # polygons, or run lengths
    iscrowd: int = 0


class AnnotationsFile(msgspec.Struct):
    """The fields of an annotations file that are read."""

    images: list[_CocoImage]
    annotations: list[AnnotatedObject]
    categories: list[_CocoCategory]


class AnnotationsFileWithMasks(AnnotationsFile):
    """The fields of an annotations file whose objects have boxes and masks."""

    annotations: list[AnnotatedObjectWithMask]  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False)
class CocoSplit:
    """The images of a split with their objects, decoded on access."""

    classes: tuple[str, ...]  # by ascending id of their category
    images: EncodedImageSource
    # The objects of each image, with the indices of `classes` in place of the categories' ids.
    objects: Sequence[Sequence[Any]]

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, row: int) -> ImageWithObjects:
        """Decode an image and its objects; ValueError names an image that is damaged, or whose masks do not fit."""
        rgb = self.images.rgb(row)
        _, height, width = rgb.shape
        objects = self.objects[row]
        boxes = torch.tensor([item.bbox for item in objects], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        with prefix_errors(f"the mask of an object in {self.images.files[row]}"):
            decoded = [_decode_mask(item.segmentation, height, width) for item in objects]
        masks = np.array(decoded, dtype=bool).reshape(-1, height, width)
        labels = [item.category_id + 1 for item in objects]
        crowds = [item.iscrowd for item in objects]
        return rgb, {
            "boxes": boxes.float(),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "masks": torch.from_numpy(masks),
            "iscrowd": torch.tensor(crowds, dtype=torch.int32),
        }

    def select(self, rows: Sequence[int]) -> "CocoSplit":
        objects = [self.objects[row] for row in rows]
        return replace(self, images=self.images.select(rows), objects=objects)


def read_coco_multi_label_task(root: Path, _cache: Path) -> MultiLabelTask:
    """Read COCO: an image has the classes of its annotations, including crowds, as in CatLIP's code.

    The validation part is held out from `train`; `val` is the test part. Images without annotations show no class.
    Raises ValueError for missing files, or files that contradict each other.
    """
    train, test = _read_splits(root, AnnotationsFile)
    train_part = _make_labelled_part(train)
    test_part = _make_labelled_part(test)
    files = train.images.files
    return build_task_with_holdout(
        MultiLabelTask, "COCO", train.classes, train_part, test_part, files
    )


def _make_labelled_part(split: CocoSplit) -> LabelledImages:
    """Return the images of a split with the classes of their objects."""
    labels = np.zeros((len(split), len(split.classes)), dtype=bool)
    for row, objects in enumerate(split.objects):
        columns = [item.category_id for item in objects]
        labels[row, columns] = True
    return LabelledImages(split.images, labels)


def read_coco_detection_task(root: Path, _cache: Path) -> DetectionTask:
    """Read COCO: train on `train`, from which the validation part is held out, and test on `val`.

    Polygons of fewer than three corners are left out. Raises ValueError for missing or contradictory files.
    """
    # A missing pycocotools is reported before the large files are read.
    import_pycocotools_module("mask")
    train, test = _read_splits(root, AnnotationsFileWithMasks)
    train = _leave_out_empty_boxes(train)
    test = _leave_out_empty_boxes(test)
    return build_task_with_holdout(
        DetectionTask, "coco", train.classes, train, test, train.images.files
    )


def _leave_out_empty_boxes(split: CocoSplit) -> CocoSplit:
    """Return a split without its objects with an empty box, of which COCO has some."""
    objects = [
        [item for item in objects_of_image if min(item.bbox[2:]) > 0]
        for objects_of_image in split.objects
    ]
    return replace(split, objects=objects)


def _read_splits(root: Path, file_type: type[AnnotationsFile]) -> tuple[CocoSplit, CocoSplit]:
    """Read `train` and the `val` of its year; ValueError for several years, or where they have other categories."""
    pattern = root / "annotations" / "instances_train*.json"
    files = sorted(pattern.parent.glob(pattern.name)) or [pattern]
    if len(files) > 1:
        raise ValueError(f"{pattern} must be one file, got {len(files)}: keep one year")
    train = _read_split(root, files[0], file_type)
    val_name = files[0].name.replace("train", "val")
    val = _read_split(root, pattern.with_name(val_name), file_type)
    if train.classes != val.classes:
        raise ValueError(f"{root}: train and val have other categories")
    return train, val


def _read_split(root: Path, file: Path, file_type: type[AnnotationsFile]) -> CocoSplit:
    """Read the annotations file of a split, and check that its images are there."""
    require_path_of_layout(root, file, COCO_LAYOUT)
    folder = root / file.stem.removeprefix("instances_")
    require_path_of_layout(root, folder, COCO_LAYOUT)
    instances = read_annotations_file(file, file_type)
    names = [image.file_name for image in instances.images]
    names_in_folder = {path.name for path in folder.iterdir()}
    missing = [name for name in names if name not in names_in_folder]
    if missing:
        raise ValueError(
            f"{file} lists {len(missing)} images that are not in {folder}, such as {missing[0]}"
        )
    annotations: dict[int, list[AnnotatedObject]] = {image.id: [] for image in instances.images}
    if len(annotations) < len(names):
        raise ValueError(f"{file}: an image id occurs twice")
    categories = sorted(instances.categories, key=lambda category: category.id)
    class_index = {category.id: index for index, category in enumerate(categories)}
    for annotation in instances.annotations:
        if annotation.image_id not in annotations or annotation.category_id not in class_index:
            raise ValueError(
                f"{file}: an annotation names an image or a category that is not listed"
            )
        annotations[annotation.image_id].append(annotation)
        annotation.category_id = class_index[annotation.category_id]
    classes = tuple(category.name for category in categories)
    images = EncodedImageSource([folder / name for name in names])
    return CocoSplit(classes, images, list(annotations.values()))


def read_annotations_file(path: Path, file_type: type[AnnotationsFile]) -> AnnotationsFile:
    """Read an annotations file; ValueError for a file that is too large, is not JSON, or lacks a field."""
    content = read_bytes_unless_larger(path, MAX_BYTES)
    with prefix_errors(path):
        return decode_json(content, file_type)


def _decode_mask(
    segmentation: list[list[float]] | _RunLengthMask, height: int, width: int
) -> Bool[np.ndarray, "height width"]:
    """Decode polygons or run lengths; ValueError for a mask of another size, or without a polygon."""
    mask: Any = msgspec.to_builtins(segmentation)
    if isinstance(segmentation, list):
        mask = [polygon for polygon in segmentation if len(polygon) >= MIN_POLYGON_LENGTH]
        if not mask:
            raise ValueError("there is none")
    elif segmentation.size != (height, width):
        raise ValueError(f"it is of another size than the image: {segmentation.size}")
    coco = import_pycocotools_module("coco").COCO()
    coco.imgs = {0: {"height": height, "width": width}}
    return np.asarray(coco.annToMask({"image_id": 0, "segmentation": mask}), dtype=bool)
