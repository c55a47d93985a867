"""Average precision of boxes and masks by COCO's definition, computed by pycocotools, which is an extra."""

import importlib
import io
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

KINDS = {"box": "bbox", "mask": "segm"}  # by pycocotools' name


@dataclass(frozen=True, slots=True, eq=False)
class ObjectAnnotations:
    """The objects in an image."""

    boxes: Float[Tensor, "objects 4"]  # left, top, right, bottom in pixels; right and bottom exclusive
    labels: Int[Tensor, " objects"]  # from 1
    masks: Bool[Tensor, "objects height width"]
    crowd: Bool[Tensor, " objects"]  # an object that stands for many: detections in it are neither right nor wrong


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The detections in an image."""

    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    scores: Float[Tensor, " objects"]
    masks: Bool[Tensor, "objects height width"]


def coco_tool(name: str) -> Any:
    """Return a module of pycocotools ("coco", "cocoeval", "mask"); ValueError where it is not installed."""
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ModuleNotFoundError:
        raise ValueError("detection needs pycocotools: python3 -m pip install -e '.[coco]'") from None


def average_precision(images: Iterable[tuple[ObjectAnnotations, Detections]]) -> dict[str, float]:
    """Return "box AP", "box AP50", "mask AP" and "mask AP50" of images with their objects and detections.

    AP is the mean over classes and ten IoU thresholds, AP50 is at IoU 0.5; at most 100 detections per image count.
    ValueError without pycocotools, or where no image has an object.
    """
    encode = coco_tool("mask").encode
    coco_images, real, detected = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (objects, found) in enumerate(images, start=1):
        height, width = objects.masks.shape[1:]
        coco_images.append({"id": number, "height": height, "width": width})
        crowd = objects.crowd.int().tolist()
        for row, is_crowd in zip(_rows(number, objects, encode), crowd, strict=True):
            real.append(row | {"id": len(real) + 1, "iscrowd": is_crowd, "area": int(row.pop("pixels"))})
        for row, score in zip(_rows(number, found, encode), found.scores.tolist(), strict=True):
            detected.append(row | {"score": score})
    if not real:
        raise ValueError("there is no object in the test part, so nothing can be detected")
    names = [f"{kind} {name}" for kind in KINDS for name in ("AP", "AP50")]
    labels = {row["category_id"] for row in real}
    detected = [row for row in detected if row["category_id"] in labels]
    if not detected:
        return dict.fromkeys(names, 0.0)
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = coco_tool("coco").COCO()
        categories = [{"id": label} for label in sorted(labels)]
        truth.dataset = {"info": {}, "images": coco_images, "annotations": real, "categories": categories}
        truth.createIndex()
        answers, values = truth.loadRes(detected), list[float]()
        for kind in KINDS.values():
            evaluated = coco_tool("cocoeval").COCOeval(truth, answers, kind)
            evaluated.evaluate()
            evaluated.accumulate()
            evaluated.summarize()
            values += map(float, evaluated.stats[:2])
    return dict(zip(names, values, strict=True))


def _rows(number: int, things: ObjectAnnotations | Detections, encode: Any) -> list[dict[str, Any]]:
    """Return the annotations of an image's objects or detections in COCO's format."""
    boxes = torch.cat([things.boxes[:, :2], things.boxes[:, 2:] - things.boxes[:, :2]], dim=1).tolist()
    masks = np.asfortranarray(things.masks.permute(1, 2, 0).numpy().astype(np.uint8))
    pixels = things.masks.flatten(1).sum(1).tolist()
    return [
        {"image_id": number, "category_id": label, "bbox": box, "segmentation": encoded, "pixels": count}
        for label, box, encoded, count in zip(things.labels.tolist(), boxes, encode(masks), pixels, strict=True)
    ]
