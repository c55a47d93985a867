"""Detection and instance segmentation: Mask R-CNN on a simple feature pyramid, trained with the tower.

Average precision of boxes and masks is COCO's, computed by torchmetrics with pycocotools, which is an extra.
"""

import copy
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from bench.data.order import shuffled_rows
from bench.data.transforms import WHITE
from bench.environment.seeds import AUGMENTATION, HEAD, derive_seed
from bench.features.dense_tasks.dense_training import (
    Examples,
    TransferTraining,
    concatenate_datasets,
)
from bench.records.scores import MetricScore
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.tasks import TaskWithSplits
from bench.transfer.transfer_training import prefetch, train_on_task
from models.dense_heads import DetectorHeadSizes, mask_rcnn
from models.image_tower import ImageTower

DetectionTarget = dict[str, Tensor]
# An image's "boxes", "labels", "scores" and boolean "masks", as torchvision names them.
Detections = dict[str, Tensor]
MASK_THRESHOLD = 0.5  # smallest mask probability of a pixel that belongs to the object
MAX_AVERAGED_IMAGES = 2000  # images whose boxes the baseline averages


@dataclass(frozen=True, slots=True, eq=False)
class ObjectAnnotations:
    """The objects in an image."""

    # Left, top, right, bottom in pixels; right and bottom exclusive.
    boxes: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]  # from 1
    masks: Bool[Tensor, "objects height width"]
    # An object that stands for many: detections in it are neither right nor wrong.
    crowd: Bool[Tensor, " objects"]


def import_pycocotools(name: str) -> Any:
    """Return a module of pycocotools ("coco", "cocoeval", "mask"); ValueError where it is not installed."""
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ModuleNotFoundError:
        raise ValueError(
            "detection needs pycocotools: python3 -m pip install -e '.[coco]'"
        ) from None


def average_precision(images: Iterable[tuple[ObjectAnnotations, Detections]]) -> dict[str, float]:
    """Return "box AP", "box AP50", "mask AP" and "mask AP50" of images with their objects and detections.

    AP is the mean over classes and ten IoU thresholds, AP50 is at IoU 0.5; at most 100 detections per image count.
    ValueError without pycocotools, or where no image has an object.
    """
    import_pycocotools("mask")
    from torchmetrics.detection import MeanAveragePrecision  # whose import takes a second

    overlaps = np.linspace(0.5, 0.95, 10).tolist()  # COCO's, in float64
    recalls = np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision("xyxy", ("bbox", "segm"), overlaps, recalls)
    metric.warn_on_many_detections = False
    num_objects = 0
    for objects, detections in images:
        num_objects += len(objects.labels)
        target = {
            "boxes": objects.boxes,
            "labels": objects.labels,
            "masks": objects.masks,
            "iscrowd": objects.crowd.int(),
        }
        metric.update([detections], [target])
    if not num_objects:
        raise ValueError("there is no object in the test part, so nothing can be detected")
    values = metric.compute()
    figures = {
        "box AP": "bbox_map",
        "box AP50": "bbox_map_50",
        "mask AP": "segm_map",
        "mask AP50": "segm_map_50",
    }
    return {name: float(values[figure]) for name, figure in figures.items()}


Annotated = tuple[UInt8[Tensor, "3 height width"], ObjectAnnotations]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionRecipe:
    """The settings of a detector and its training."""

    side: int  # of the square that images are resized to, in pixels
    heads: DetectorHeadSizes
    training: TransferTraining
    # In its place, from a width on.
    wide_trainings: Mapping[int, TransferTraining] = field(default_factory=dict)

    def training_for(self, width: int) -> TransferTraining:
        """Return the training of a tower of this width."""
        reached = [least for least in self.wide_trainings if width >= least]
        return self.wide_trainings[max(reached)] if reached else self.training


# CatLIP's recipes for ViT-B, ViT-L and ViT-H, whose 25 or 20 epochs repeat each image four times; without RangeAugment,
# stochastic depth and the sampler of several image sizes. Source: apple/corenet 1aa3acd,
# `projects/catlip/object_detection/maskrcnn_vit_{base,large,huge}.yaml` (2 images on each of 64 GPUs).
_VIT_B = TransferTraining(
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
    heads=DetectorHeadSizes(
        channels=256, box_features=1024, mask_layers=4, proposals=1000, regions=512
    ),
    training=_VIT_B,
    wide_trainings={
        1024: replace(_VIT_B, layer_decay=0.8),
        1280: replace(_VIT_B, layer_decay=0.9, epochs=80, milestones=(17 / 20, 19 / 20)),
    },
)


@dataclass(frozen=True, slots=True)
class DetectionTask(TaskWithSplits[Examples[Annotated]]):
    """A task of images and objects; label k is classes[k - 1]."""

    recipe: DetectionRecipe

    def __post_init__(self) -> None:
        """Raise ValueError for a part without objects; each part is read up to its first image with an object."""
        for what in ("train", "validation", "test"):
            part = getattr(self, what)
            if not any((~part[row][1].crowd).any() for row in range(len(part))):
                raise ValueError(
                    f"{self.name}: no image of the {what} part shows an object that is no crowd"
                )


def score_detection(subject: FeatureExtractor, task: DetectionTask) -> list[MetricScore]:
    """Return AP of boxes and of masks, averaged over IoU 0.5 to 0.95, and at IoU 0.5.

    The baseline predicts the same for every image: each class's mean box, filled by the mask, scored by frequency.
    """
    assert subject.tower is not None
    tower = subject.tower.to(subject.device)
    training = task.recipe.training_for(tower.width)

    def quality(rate: float) -> float:
        return average_precision(
            _detect(_train_detector(tower, task, task.train, rate), task.validation)
        )["box AP"]

    rate = training.best_rate(tower.width, quality)
    joint = concatenate_datasets(task.train, task.validation)
    precision = average_precision(_detect(_train_detector(tower, task, joint, rate), task.test))
    baseline = average_precision(_predict_mean_boxes(joint, task.test, len(task.classes)))
    return [
        MetricScore(
            task=task.name,
            protocol="detection",
            name=name,
            value=precision[name],
            num_train=len(joint),
            num_test=len(task.test),
            baseline=baseline[name],
            training=training.task_training(len(joint), task.recipe.side, rate),
        )
        for name in precision
    ]


def _train_detector(
    tower: ImageTower, task: DetectionTask, part: Examples[Annotated], rate: float
) -> MaskRCNN:
    """Train a copy of a tower with new heads, by the sum of torchvision's five losses."""
    device = next(tower.parameters()).device
    training = task.recipe.training_for(tower.width)
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(training.seed, HEAD))
        mean_and_std = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
        trained_tower = copy.deepcopy(tower).cpu()
        model = mask_rcnn(
            trained_tower, len(task.classes) + 1, task.recipe.side, mean_and_std, task.recipe.heads
        )
    model = model.to(device)

    def load(k: int) -> list[list[tuple[Tensor, DetectionTarget]]]:
        rows = shuffled_rows(
            training.seed, len(part), start=k * training.batch_size, size=training.batch_size
        )
        generator = torch.Generator().manual_seed(derive_seed(training.seed, AUGMENTATION, k))
        is_mirrored = torch.rand(len(rows), generator=generator) < 0.5  # noqa: PLR2004
        batch = []
        for row, mirrored in zip(rows.tolist(), is_mirrored.tolist(), strict=True):
            batch.append(_image_and_target(*part[row], mirrored=mirrored))
        size = training.micro_batch_size
        return [batch[first : first + size] for first in range(0, len(batch), size)]

    def loss_of(batch: list[tuple[Tensor, DetectionTarget]]) -> Float[Tensor, ""]:
        images = [rgb.to(device) / WHITE for rgb, _ in batch]
        targets = [
            {name: value.to(device) for name, value in target.items()} for _, target in batch
        ]
        return torch.stack(list(model(images, targets).values())).sum()

    steps = training.steps(len(part))
    trained: MaskRCNN = train_on_task(
        model, trained_tower, prefetch(load, steps), steps, loss_of, training, rate
    )
    return trained


def _image_and_target(
    rgb: Tensor, objects: ObjectAnnotations, *, mirrored: bool
) -> tuple[Tensor, DetectionTarget]:
    """Return an image and its targets for torchvision's detectors, without crowds."""
    kept = ~objects.crowd
    boxes = objects.boxes[kept]
    masks = objects.masks[kept].to(torch.uint8)
    if mirrored:
        left, top, right, bottom = boxes.unbind(1)
        width = rgb.shape[-1]
        boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
        rgb = rgb.flip(-1)
        masks = masks.flip(-1)
    return rgb, {"boxes": boxes, "labels": objects.labels[kept], "masks": masks}


@torch.inference_mode()
def _detect(
    model: MaskRCNN, part: Examples[Annotated]
) -> Iterator[tuple[ObjectAnnotations, Detections]]:
    device = next(model.parameters()).device
    for row in range(len(part)):
        rgb, objects = part[row]
        (output,) = model([rgb.to(device) / WHITE])
        detections = {name: value.cpu() for name, value in output.items()}
        detections["masks"] = detections["masks"][:, 0] >= MASK_THRESHOLD
        yield objects, detections


def _predict_mean_boxes(
    train: Examples[Annotated], part: Examples[Annotated], num_classes: int
) -> Iterator[tuple[ObjectAnnotations, Detections]]:
    """Yield each image's objects, and the mean box of each class in training, relative to the sides of the image."""
    sums = torch.zeros(num_classes, 4)
    counts = torch.zeros(num_classes)
    for row in range(min(len(train), MAX_AVERAGED_IMAGES)):
        rgb, objects = train[row]
        labels = objects.labels[~objects.crowd] - 1
        sums.index_add_(0, labels, objects.boxes[~objects.crowd] / _box_scale(rgb))
        counts.index_add_(0, labels, torch.ones(len(labels)))
    seen = counts.nonzero()[:, 0]
    means = sums[seen] / counts[seen, None]
    shares = counts[seen] / counts.sum()
    for row in range(len(part)):
        rgb, objects = part[row]
        boxes = means * _box_scale(rgb)
        masks = torch.zeros(len(boxes), *rgb.shape[1:], dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(
            masks, boxes.round().int().tolist(), strict=True
        ):
            mask[top:bottom, left:right] = True
        yield objects, {"boxes": boxes, "labels": seen + 1, "scores": shares, "masks": masks}


def _box_scale(rgb: UInt8[Tensor, "3 height width"]) -> Float[Tensor, "4"]:
    height, width = rgb.shape[1:]
    return torch.tensor([width, height, width, height], dtype=torch.float32)
