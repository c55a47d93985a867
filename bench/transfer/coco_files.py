"""Pictures and objects in COCO's files."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from bench.transfer.average_precision import Objects
from bench.transfer.coco_tools import coco_tool
from bench.transfer.detection import PUBLISHED, Annotated, DetectionTask
from bench.transfer.pictures import FilePictures

LAYOUT = (
    "{root}/annotations/instances_train2017.json, {root}/train2017/NAME.jpg, {root}/annotations/instances_val2017.json, "
    "{root}/val2017/NAME.jpg (2017 may be another word)"
)
TOLD = 3  # files that an error names
Annotation = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class CocoFiles:
    """Pictures with their annotations, decoded when they are asked for."""

    pictures: FilePictures
    annotations: Sequence[Sequence[Annotation]]  # of each picture
    label_of: Mapping[int, int]  # from 1, by the category's number

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, row: int) -> Annotated:
        """Decode a picture and its objects; ValueError names what cannot be."""
        rgb, found = self.pictures.rgb(row), self.annotations[row]
        height, width = rgb.shape[1:]
        path = self.pictures.paths[row]
        masks = [_mask(one["segmentation"], height, width, path) for one in found]
        boxes = [(left, top, left + wide, top + high) for left, top, wide, high in (one["bbox"] for one in found)]
        return rgb, Objects(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([self.label_of[one["category_id"]] for one in found], dtype=torch.int64),
            masks=torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, height, width)),
            crowd=torch.tensor([bool(one.get("iscrowd", 0)) for one in found], dtype=torch.bool),
        )


def coco(root: Path) -> DetectionTask:
    """Open COCO, or a set of one's own in its layout."""
    (train, names), (test, names_of_test) = (_part(root, part) for part in ("train", "val"))
    if names != names_of_test:
        raise ValueError(f"{root}: the categories of the val annotations are not those of the train annotations")
    return DetectionTask("coco", names, train, None, test, PUBLISHED)


def _part(root: Path, part: str) -> tuple[CocoFiles, tuple[str, ...]]:
    found = sorted((root / "annotations").glob(f"instances_{part}*.json"))
    if len(found) != 1:
        what = "several" if found else "no"
        raise ValueError(f"{root} has {what} annotations/instances_{part}*.json; expected: {LAYOUT.format(root=root)}")
    folder = root / found[0].stem.removeprefix("instances_")
    if not folder.is_dir():
        raise ValueError(f"{folder} is missing; expected: {LAYOUT.format(root=root)}")
    try:
        document = json.loads(found[0].read_bytes())
        images, annotations, categories = (document[key] for key in ("images", "annotations", "categories"))
        label_of = {one["id"]: label for label, one in enumerate(sorted(categories, key=_number), start=1)}
        names = tuple(one["name"] for one in sorted(categories, key=_number))
        by_image = _by_image(annotations, label_of, {one["id"] for one in images})
        paths = [folder / one["file_name"] for one in images]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{found[0]} is not in COCO's format: {type(error).__name__}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{found[0]}: {error}") from None
    if missing := [str(path) for path in paths if not path.is_file()]:
        more = f" and {len(missing) - TOLD} more" if len(missing) > TOLD else ""
        raise ValueError(f"{len(missing)} of {len(paths)} pictures are missing: {', '.join(missing[:TOLD])}{more}")
    return CocoFiles(FilePictures(paths), [by_image[one["id"]] for one in images], label_of), names


def _by_image(
    annotations: Sequence[Annotation], label_of: Mapping[int, int], images: set[int]
) -> Mapping[int, list[Annotation]]:
    """Return each image's annotations; those whose box is empty are left out, as COCO's own have some."""
    found: dict[int, list[Annotation]] = defaultdict(list)
    for one in annotations:
        if one["image_id"] not in images:
            raise ValueError(f"annotation {one['id']} is of image {one['image_id']}, which is not listed")
        if one["category_id"] not in label_of:
            raise ValueError(f"annotation {one['id']} has category {one['category_id']}, which is not listed")
        if min(one["bbox"][2:]) > 0:
            found[one["image_id"]].append(one)
    return found


def _number(category: Annotation) -> int:
    return int(category["id"])


def _mask(segmentation: Any, height: int, width: int, path: Path) -> Bool[np.ndarray, "height width"]:
    """Decode polygons or runs; ValueError names the picture whose size is another."""
    tool = coco_tool("mask")
    if isinstance(segmentation, list):
        return np.asarray(tool.decode(tool.merge(tool.frPyObjects(segmentation, height, width))), dtype=bool)
    if list(segmentation["size"]) != [height, width]:
        told = " x ".join(map(str, segmentation["size"][::-1]))
        raise ValueError(f"{path} has {width} x {height} px, a mask of it {told}")
    runs = segmentation if isinstance(segmentation["counts"], str) else tool.frPyObjects(segmentation, height, width)
    return np.asarray(tool.decode(runs), dtype=bool)
