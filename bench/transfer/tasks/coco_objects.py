"""COCO's layout as a detection task."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from jaxtyping import Bool

from bench.transfer.detection.average_precision import ObjectAnnotations, coco_tool
from bench.transfer.detection.detection import PUBLISHED, Annotated, DetectionTask
from bench.transfer.tasks.coco import Annotation, Instances, find_split, image_paths, read_instances
from bench.transfer.tasks.multi_label_tasks import holdout
from bench.transfer.tasks.pictures import FileImageSource
from bench.transfer.tasks.unreadable import readable_rows

FEWEST_NUMBERS = 6  # coordinates of a polygon: three corners


class _Runs(msgspec.Struct):
    """A run-length encoded mask; `counts` is compressed where it is a string."""

    size: tuple[int, int]
    counts: list[int] | str


class _Object(Annotation):
    bbox: tuple[float, float, float, float]  # left, top, width, height
    segmentation: list[list[float]] | _Runs  # polygons, or run lengths
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
        rgb, found = self.images.rgb(row), self.objects[row]
        height, width = rgb.shape[1:]
        masks = [_mask(one.segmentation, height, width, self.images.paths[row]) for one in found]
        boxes = [(left, top, left + wide, top + high) for left, top, wide, high in (one.bbox for one in found)]
        return rgb, ObjectAnnotations(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([self.label_of[one.category_id] for one in found], dtype=torch.int64),
            masks=torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, height, width)),
            crowd=torch.tensor([bool(one.iscrowd) for one in found], dtype=torch.bool),
        )

    def select(self, rows: Sequence[int]) -> "CocoFiles":
        images = FileImageSource([self.images.paths[row] for row in rows])
        return CocoFiles(self.annotations, images, [self.objects[row] for row in rows], self.label_of)


def coco_objects(root: Path, cache: Path) -> DetectionTask:
    """Read COCO: train on `train`, from which the validation part is held out, and test on `val`.

    Unreadable images and polygons of fewer than three corners are left out. Raises ValueError for missing or
    contradictory files.
    """
    coco_tool("mask")  # a missing pycocotools is reported before the large files are read
    notes = list[str]()
    (train, classes), (test, test_classes) = (_split(root, split, notes) for split in ("train", "val"))
    if classes != test_classes:
        raise ValueError(f"{root}: train and val have other categories")
    kept, held = map(train.select, holdout("coco", [path.name for path in train.images.paths]))
    parts = list[CocoFiles]()
    for part, what in ((kept, "train"), (held, "validation"), (test, "test")):
        files = [*part.images.paths, part.annotations]
        rows, note = readable_rows(part.__getitem__, len(part), files, cache, f"coco {what}", "boxes and masks")
        parts.append(part.select(rows))
        notes += note
    fitted, chosen_on, tested = parts
    return DetectionTask("coco", classes, fitted, chosen_on, tested, PUBLISHED, tuple(notes))


def _split(root: Path, split: str, notes: list[str]) -> tuple[CocoFiles, tuple[str, ...]]:
    """Return a split's images and objects, and its classes; append a note on polygons that are left out."""
    file, folder = find_split(root, split)
    instances = read_instances(file, _Objects)
    categories = sorted(instances.categories, key=lambda one: one.id)
    by_image: dict[int, list[_Object]] = defaultdict(list)
    flat = 0
    for one in instances.annotations:
        if min(one.bbox[2:]) <= 0:  # COCO has some empty boxes
            continue
        if isinstance(one.segmentation, list):
            polygons = [polygon for polygon in one.segmentation if len(polygon) >= FEWEST_NUMBERS]
            flat += len(one.segmentation) - len(polygons)
            one.segmentation = polygons
        by_image[one.image_id].append(one)
    if not by_image:
        raise ValueError(f"{file} has no object")
    if flat:
        notes.append(f"{file}: {flat:,} polygons have fewer than three corners; they are left out")
    objects = [by_image[image.id] for image in instances.images]
    label_of = {one.id: label for label, one in enumerate(categories, start=1)}
    files = CocoFiles(file, FileImageSource(image_paths(instances, file, folder)), objects, label_of)
    return files, tuple(one.name for one in categories)


def _mask(
    segmentation: list[list[float]] | _Runs, height: int, width: int, path: Path
) -> Bool[np.ndarray, "height width"]:
    """Rasterise polygons, or decode run lengths."""
    tool: Any = coco_tool("mask")
    if segmentation == []:
        raise ValueError(f"an object in {path} has no mask")
    if isinstance(segmentation, list):
        if any(len(polygon) % 2 for polygon in segmentation):
            raise ValueError(f"an object in {path} has a polygon of an odd number of numbers, not of pairs")
        runs = tool.merge(tool.frPyObjects(segmentation, height, width))
    else:
        if segmentation.size != (height, width):
            of_mask = f"{segmentation.size[1]} x {segmentation.size[0]}"
            raise ValueError(f"{path} has {width} x {height} px, the mask of an object in it {of_mask}")
        runs = msgspec.to_builtins(segmentation)
        if isinstance(segmentation.counts, list):
            runs = tool.frPyObjects(runs, height, width)
    try:
        return np.asarray(tool.decode(runs), dtype=bool)
    except ValueError as error:
        raise ValueError(f"the mask of an object in {path} is not read: {error}") from None
