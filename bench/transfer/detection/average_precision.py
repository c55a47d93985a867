"""Average precision of boxes and masks, as COCO counts it, by pycocotools."""

import io
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bench.transfer.tasks.coco_tools import coco_tool

KINDS = {"box": "bbox", "mask": "segm"}  # pycocotools' words


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """What is in a picture."""

    boxes: Float[Tensor, "objects 4"]  # left, top, right, bottom in pixels, the last two beyond
    labels: Int[Tensor, " objects"]  # from 1
    masks: Bool[Tensor, "objects height width"]
    crowd: Bool[Tensor, " objects"]  # stands for many: what is found in it is neither right nor wrong


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What is found in a picture."""

    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    scores: Float[Tensor, " objects"]
    masks: Bool[Tensor, "objects height width"]


def average_precision(pictures: Iterable[tuple[Objects, Found]]) -> dict[str, float]:
    """Return "box AP", "box AP50", "mask AP" and "mask AP50" of what is in pictures and what is found there.

    AP is averaged over classes and ten thresholds of IoU, AP50 is that at 0.5; a hundred finds a picture count.
    ValueError without pycocotools, or where there is no object to find.
    """
    encode = coco_tool("mask").encode
    images, real, told = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (objects, found) in enumerate(pictures, start=1):
        height, width = objects.masks.shape[1:]
        images.append({"id": number, "height": height, "width": width})
        crowd = objects.crowd.int().tolist()
        for row, is_crowd in zip(_rows(number, objects, encode), crowd, strict=True):
            real.append(row | {"id": len(real) + 1, "iscrowd": is_crowd, "area": int(row.pop("pixels"))})
        for row, score in zip(_rows(number, found, encode), found.scores.tolist(), strict=True):
            told.append(row | {"score": score})
    if not real:
        raise ValueError("there is no object in the test part, so nothing can be found")
    names = [f"{kind} {name}" for kind in KINDS for name in ("AP", "AP50")]
    labels = {row["category_id"] for row in real}
    told = [row for row in told if row["category_id"] in labels]
    if not told:
        return dict.fromkeys(names, 0.0)
    with redirect_stdout(io.StringIO()):  # pycocotools prints as it works
        truth = coco_tool("coco").COCO()
        categories = [{"id": label} for label in sorted(labels)]
        truth.dataset = {"info": {}, "images": images, "annotations": real, "categories": categories}
        truth.createIndex()
        answers = truth.loadRes(told)
        figures = [_figures(coco_tool("cocoeval").COCOeval(truth, answers, kind)) for kind in KINDS.values()]
    return dict(zip(names, (value for two in figures for value in two), strict=True))


def _figures(evaluated: Any) -> tuple[float, float]:
    evaluated.evaluate()
    evaluated.accumulate()
    evaluated.summarize()
    return float(evaluated.stats[0]), float(evaluated.stats[1])


def _rows(number: int, things: Objects | Found, encode: Any) -> list[dict[str, Any]]:
    """Describe the things in a picture as COCO does."""
    boxes = torch.cat([things.boxes[:, :2], things.boxes[:, 2:] - things.boxes[:, :2]], dim=1).tolist()
    masks = np.asfortranarray(things.masks.permute(1, 2, 0).numpy().astype(np.uint8))
    pixels = things.masks.flatten(1).sum(1).tolist()
    return [
        {"image_id": number, "category_id": label, "bbox": box, "segmentation": encoded, "pixels": count}
        for label, box, encoded, count in zip(things.labels.tolist(), boxes, encode(masks), pixels, strict=True)
    ]
