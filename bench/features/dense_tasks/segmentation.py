"""Semantic segmentation with DeepLabV3's head, trained with the tower and scored by mean IoU."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from bench.data.decoding import Pixels
from bench.data.transforms import WHITE, normalise
from bench.features.dense_tasks.dense_training import (
    DenseTrainingRecipe,
    ExampleDataset,
)
from bench.records.scores import MetricScore
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.tasks import TaskWithSplits
from losses import Scalar
from models.dense_heads import ASPP_CHANNELS, Segmenter, build_deeplab_segmenter
from models.image_tower import ImageTower
from models.patch_map import copy_resized_tower

IGNORED = 255  # in a mask: excluded from training and scoring
# Largest ratio of a training image's longer side, before cropping, to the crop's side.
MAX_ASPECT_RATIO = 2.0
PREDICT_BATCH_SIZE = 16  # images per batch of scoring
# An image and the class of each pixel.
ImageAndMask = tuple[Pixels, UInt8[Tensor, "height width"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationRecipe:
    """The settings of the training."""

    side: int  # in pixels, of the square that images are cropped to in training and squeezed to in scoring
    # Range of a training image's random shorter side, over `side`.
    shorter_side_scales: tuple[float, float]
    channels: int = ASPP_CHANNELS
    training: DenseTrainingRecipe


# CatLIP's recipe, without RangeAugment, and with crops that one class may fill. Source: Mehta et al. 2024 (arXiv
# 2404.15653), section 5.2; apple/corenet, `projects/catlip/semantic_segmentation/deeplabv3_vit_base.yaml` (512 px, 4
# images on each of 8 GPUs).
PUBLISHED = SegmentationRecipe(
    side=512,
    shorter_side_scales=(0.5, 1.5),
    training=DenseTrainingRecipe(
        epochs=50,
        batch_size=32,
        micro_batch_size=8,
        learning_rates=(3e-5, 1e-4, 3e-4, 1e-3),
        warmup_steps=500,
        ema_decay=0.9999,
    ),
)


@dataclass(frozen=True, slots=True)
class SegmentationTask(TaskWithSplits[ExampleDataset[ImageAndMask]]):
    """A task of images and masks."""

    recipe: SegmentationRecipe = PUBLISHED


class MeanIou(NamedTuple):
    """The mean IoU over classes, from 0 to 1."""

    value: float
    of_commonest_class: float  # of a prediction of the commonest class everywhere


def score_segmentation(extractor: FeatureExtractor, task: SegmentationTask) -> list[MetricScore]:
    """Train a segmenter at the best rate, and return its mean IoU on the test part as the only score.

    The baseline predicts the commonest class everywhere.
    """
    assert extractor.tower is not None
    tower = copy_resized_tower(
        extractor.tower, task.recipe.side, last_block_computes_patches=True
    ).to(extractor.device)

    def measure(model: Segmenter, part: ExampleDataset[ImageAndMask]) -> MeanIou:
        return compute_mean_iou(partial(_predict_masks, model), part, len(task.classes))

    result = task.recipe.training.train_at_best_rate(
        task,
        tower,
        train=partial(_train_segmenter_on_copy, tower, task),
        measure_quality=lambda model, part: measure(model, part).value,
    )
    test_iou = measure(result.model, task.test)
    score = MetricScore(
        task=task.name,
        protocol="segmentation",
        name="mIoU, DeepLabV3",
        value=test_iou.value,
        num_train=result.num_train,
        num_test=len(task.test),
        baseline=test_iou.of_commonest_class,
        training=result.training,
    )
    return [score]


@torch.inference_mode()
def compute_mean_iou(
    predict: Callable[[Sequence[ImageAndMask]], Iterable[Tensor]],
    part: ExampleDataset[ImageAndMask],
    num_classes: int,
) -> MeanIou:
    """Return the mean IoU over classes from the pixels of all images together.

    Classes without a true or predicted pixel are left out, and so are IGNORED
    pixels. `predict` returns the class of each pixel of each pair. ValueError where no pixel has a class.
    """
    from torchmetrics.classification import MulticlassJaccardIndex  # the import takes a second

    metric = MulticlassJaccardIndex(
        num_classes, average="macro", ignore_index=IGNORED, validate_args=False
    )
    for first in range(0, len(part), PREDICT_BATCH_SIZE):
        end = min(first + PREDICT_BATCH_SIZE, len(part))
        pairs = [part[row] for row in range(first, end)]
        for (_, mask), predicted in zip(pairs, predict(pairs), strict=True):
            metric.update(predicted.cpu()[None], mask.long()[None])
    pixels = metric.confmat.sum(1)
    if not pixels.any():
        raise ValueError("no pixel has a class")
    commonest_share = pixels.max() / pixels.sum()
    num_shown_classes = (pixels > 0).sum()
    return MeanIou(float(metric.compute()), float(commonest_share / num_shown_classes))


def random_scale_crop_flip(
    pair: ImageAndMask,
    side: int,
    shorter_side_scales: tuple[float, float],
    generator: torch.Generator,
) -> tuple[UInt8[Tensor, "3 side side"], UInt8[Tensor, "side side"]]:
    """Scale an image and its mask at random, crop a square and flip half of them; padding of the mask is IGNORED.

    The scale is drawn from a range in which 1.0 makes the shorter side as long as `side`.
    """
    rgb, mask = pair
    stretch, down, across, mirrored = torch.rand(4, generator=generator).tolist()
    shorter, longer = sorted(mask.shape)
    smallest, largest = shorter_side_scales
    drawn_scale = side * (smallest + (largest - smallest) * stretch) / shorter
    scale = min(drawn_scale, MAX_ASPECT_RATIO * side / longer)
    size = [max(1, round(length * scale)) for length in mask.shape]
    rgb = TF.resize(rgb, size, antialias=True)
    mask = TF.resize(mask[None], size, InterpolationMode.NEAREST_EXACT)
    height, width = size
    padding = [0, max(0, side - width), 0, max(0, side - height)]
    rgb = F.pad(rgb, padding)
    mask = F.pad(mask, padding, value=IGNORED)[0]
    top = int(down * (mask.shape[0] - side + 1))
    left = int(across * (mask.shape[1] - side + 1))
    rows = slice(top, top + side)
    columns = slice(left, left + side)
    rgb = rgb[..., rows, columns]
    mask = mask[rows, columns]
    if mirrored < 0.5:  # noqa: PLR2004
        return rgb.flip(-1), mask.flip(-1)
    return rgb, mask


def _train_segmenter_on_copy(
    tower: ImageTower,
    task: SegmentationTask,
    part: ExampleDataset[ImageAndMask],
    learning_rate: float,
) -> Segmenter:
    """Train a copy of a tower with a new head, by cross-entropy in nats, the mean over pixels with a class."""
    device = next(tower.parameters()).device
    recipe = task.recipe
    training = recipe.training

    def build_model(trained_tower: ImageTower) -> Segmenter:
        return build_deeplab_segmenter(trained_tower, len(task.classes), recipe.channels)

    def load_micro_batches(batch_number: int) -> list[tuple[Tensor, Tensor]]:
        rows, generator = training.draw_batch_rows(len(part), batch_number)
        crops = [
            random_scale_crop_flip(
                part[row], tower.image_size, recipe.shorter_side_scales, generator
            )
            for row in rows.tolist()
        ]
        rgb = torch.stack([crop for crop, _ in crops])
        masks = torch.stack([mask for _, mask in crops])
        size = training.micro_batch_size
        return list(zip(torch.split(rgb, size), torch.split(masks, size), strict=True))

    def compute_loss(model: Segmenter, batch: tuple[Tensor, Tensor]) -> Scalar:
        rgb = batch[0].to(device)
        masks = batch[1].to(device)
        logits = model(normalise(rgb / WHITE))
        total = F.cross_entropy(logits, masks.long(), ignore_index=IGNORED, reduction="sum")
        num_pixels = (masks != IGNORED).sum()
        return total / num_pixels.clamp(min=1)

    return training.train_copy(
        tower, build_model, len(part), load_micro_batches, compute_loss, learning_rate
    )


def _predict_masks(model: Segmenter, pairs: Sequence[ImageAndMask]) -> Iterator[Tensor]:
    """Yield the class of each pixel: images are squeezed to a square, logits are interpolated to the original size."""
    device = next(model.parameters()).device
    side = model.tower.image_size
    squeezed = torch.stack([TF.resize(rgb, [side, side], antialias=True) for rgb, _ in pairs])
    logits_of_batch = model(normalise(squeezed.to(device) / WHITE))
    for logits, (_, mask) in zip(logits_of_batch, pairs, strict=True):
        resized = F.interpolate(logits[None], list(mask.shape), mode="bilinear")
        yield resized[0].argmax(0)
