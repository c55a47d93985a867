"""Detection and instance segmentation: Mask R-CNN on a simple feature pyramid, trained with the tower.

Average precision of boxes and masks is COCO's, computed by torchmetrics with pycocotools, which is an extra.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from bench.data.decoding import Pixels
from bench.data.transforms import WHITE
from bench.features.dense_tasks.dense_training import (
    DenseTrainingRecipe,
    ExampleDataset,
)
from bench.records.scores import MetricScore
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.tasks import TaskWithSplits
from losses import Scalar
from models.dense_heads import DetectionHeadSizes, build_mask_rcnn, copy_tower_for_mask_rcnn
from models.image_tower import ImageTower

# The objects in an image: "boxes" [objects, 4] (left, top, right, bottom in pixels; right and bottom exclusive),
# "labels" [objects] (from 1), boolean "masks" [objects, height, width], and "iscrowd" [objects] (1: the object stands
# for a crowd, in which detections are neither right nor wrong). Detections have "scores" in place of "iscrowd".
Objects = dict[str, Tensor]
ImageWithObjects = tuple[Pixels, Objects]
MASK_THRESHOLD = 0.5  # smallest mask probability of a pixel that belongs to the object


def import_pycocotools_module(name: str) -> Any:
    """Return a module of pycocotools ("coco", "cocoeval", "mask"); ValueError where it is not installed."""
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ModuleNotFoundError:
        raise ValueError(
            "detection needs pycocotools: python3 -m pip install -e '.[coco]'"
        ) from None


def compute_average_precision(
    objects_and_detections: Iterable[tuple[Objects, Objects]],
) -> dict[str, float]:
    """Return "box AP", "box AP50", "mask AP" and "mask AP50" of images with their objects and detections.

    AP is the mean over classes and ten IoU thresholds, AP50 is at IoU 0.5; at most 100 detections per image count.
    ValueError without pycocotools, or where no image has an object that is no crowd.
    """
    import_pycocotools_module("mask")
    from torchmetrics.detection import MeanAveragePrecision  # the import takes a second

    overlaps = np.linspace(0.5, 0.95, 10).tolist()  # COCO's, in float64
    recalls = np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision("xyxy", ("bbox", "segm"), overlaps, recalls)
    metric.warn_on_many_detections = False
    num_objects = 0
    for objects, detections in objects_and_detections:
        num_objects += int((objects["iscrowd"] == 0).sum())
        metric.update([detections], [objects])
    if not num_objects:
        raise ValueError("the scored images have no single object, so nothing can be detected")
    values = metric.compute()
    return {
        "box AP": float(values["bbox_map"]),
        "box AP50": float(values["bbox_map_50"]),
        "mask AP": float(values["segm_map"]),
        "mask AP50": float(values["segm_map_50"]),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionRecipe:
    """The settings of a detector and its training."""

    # Of the square that images are resized to, in pixels; rounded for the tower's patches.
    side: int
    heads: DetectionHeadSizes
    trainings: Mapping[int, DenseTrainingRecipe]  # by the smallest width of their towers

    def choose_training_for_width(self, width: int) -> DenseTrainingRecipe:
        """Return the training settings for a tower of this width, which is the length of its features."""
        return self.trainings[max(min_width for min_width in self.trainings if min_width <= width)]


# CatLIP's recipes for ViT-B, ViT-L and ViT-H, whose 25 or 20 epochs repeat each image four times; without RangeAugment,
# stochastic depth and the sampler of several image sizes. Source: apple/corenet 1aa3acd,
# `projects/catlip/object_detection/maskrcnn_vit_{base,large,huge}.yaml` (2 images on each of 64 GPUs).
_VIT_B = DenseTrainingRecipe(
    epochs=100,
    batch_size=128,
    micro_batch_size=2,
    learning_rates=(3e-4, 1e-3),
    milestones=(22 / 25, 24 / 25),
    warmup_share=0.01,
    warmup_steps=250,
    layer_decay=0.7,
    ema_decay=0.9999,
)
PUBLISHED = DetectionRecipe(
    side=1024,
    heads=DetectionHeadSizes(
        channels=256,
        box_features=1024,
        num_mask_layers=4,
        proposals_per_image=1000,
        regions_per_image=512,
    ),
    trainings={
        0: _VIT_B,
        1024: replace(_VIT_B, layer_decay=0.8),
        1280: replace(_VIT_B, layer_decay=0.9, epochs=80, milestones=(17 / 20, 19 / 20)),
    },
)


@dataclass(frozen=True, slots=True)
class DetectionTask(TaskWithSplits[ExampleDataset[ImageWithObjects]]):
    """A task of images and objects; label k is classes[k - 1]."""

    recipe: DetectionRecipe = PUBLISHED


def score_detection(extractor: FeatureExtractor, task: DetectionTask) -> list[MetricScore]:
    """Return AP of boxes and of masks, averaged over IoU 0.5 to 0.95, and at IoU 0.5.

    The baseline, 0, detects nothing.
    """
    import_pycocotools_module("mask")  # a missing one is reported before the training
    assert extractor.tower is not None
    tower = copy_tower_for_mask_rcnn(extractor.tower, task.recipe.side).to(extractor.device)
    training = task.recipe.choose_training_for_width(tower.width)

    def measure_box_precision(model: MaskRCNN, part: ExampleDataset[ImageWithObjects]) -> float:
        return compute_average_precision(_detect_objects(model, part))["box AP"]

    train = partial(_train_detector_on_copy, tower, task)
    result = training.train_at_best_rate(task, tower, train, measure_box_precision)
    precisions = compute_average_precision(_detect_objects(result.model, task.test))
    scores = []
    for name, value in precisions.items():
        score = MetricScore(
            task=task.name,
            protocol="detection",
            name=name,
            value=value,
            num_train=result.num_train,
            num_test=len(task.test),
            baseline=0.0,
            training=result.training,
        )
        scores.append(score)
    return scores


def _train_detector_on_copy(
    tower: ImageTower,
    task: DetectionTask,
    part: ExampleDataset[ImageWithObjects],
    learning_rate: float,
) -> MaskRCNN:
    """Train a copy of a tower with new heads, by the sum of torchvision's five losses."""
    device = next(tower.parameters()).device
    training = task.recipe.choose_training_for_width(tower.width)

    def build_model(trained_tower: ImageTower) -> MaskRCNN:
        return build_mask_rcnn(trained_tower, len(task.classes) + 1, task.recipe.heads)

    def load_micro_batches(batch_number: int) -> list[list[tuple[Tensor, Objects]]]:
        """Return the micro-batches of a batch; each image is mirrored with a probability of a half."""
        rows, generator = training.draw_batch_rows(len(part), batch_number)
        is_mirrored = torch.rand(len(rows), generator=generator) < 0.5  # noqa: PLR2004
        batch = []
        for row, mirrored in zip(rows.tolist(), is_mirrored.tolist(), strict=True):
            batch.append(_make_detector_input(*part[row], mirrored=mirrored))
        size = training.micro_batch_size
        return [batch[first : first + size] for first in range(0, len(batch), size)]

    def compute_loss(model: MaskRCNN, batch: list[tuple[Tensor, Objects]]) -> Scalar:
        images = []
        targets = []
        for rgb, target in batch:
            images.append(rgb.to(device) / WHITE)
            targets.append({name: value.to(device) for name, value in target.items()})
        losses = model(images, targets)
        return torch.stack(list(losses.values())).sum()

    return training.train_copy(
        tower, build_model, len(part), load_micro_batches, compute_loss, learning_rate
    )


def _make_detector_input(
    rgb: Tensor, objects: Objects, *, mirrored: bool
) -> tuple[Tensor, Objects]:
    """Return an image and its targets for torchvision's detectors, without crowds."""
    is_single = objects["iscrowd"] == 0
    boxes = objects["boxes"][is_single]
    masks = objects["masks"][is_single].to(torch.uint8)
    if mirrored:
        left, top, right, bottom = boxes.unbind(1)
        width = rgb.shape[-1]
        boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
        rgb = rgb.flip(-1)
        masks = masks.flip(-1)
    return rgb, {"boxes": boxes, "labels": objects["labels"][is_single], "masks": masks}


@torch.inference_mode()
def _detect_objects(
    model: MaskRCNN, part: ExampleDataset[ImageWithObjects]
) -> Iterator[tuple[Objects, Objects]]:
    """Yield (true objects, detected objects) of each image."""
    device = next(model.parameters()).device
    for row in range(len(part)):
        rgb, objects = part[row]
        (output,) = model([rgb.to(device) / WHITE])
        detections = {name: value.cpu() for name, value in output.items()}
        detections["masks"] = detections["masks"][:, 0] >= MASK_THRESHOLD
        yield objects, detections
