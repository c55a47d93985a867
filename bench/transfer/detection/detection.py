"""Detection and instance segmentation: Mask R-CNN on a simple feature pyramid, trained with the tower; box, mask AP."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torch.utils.data import ConcatDataset
from torchvision.models.detection import MaskRCNN

from bench.data.normalisation import WHITE
from bench.data.order import shuffled_rows
from bench.environment.seeds import AUGMENTATION, HEAD, seed_for
from bench.record import Metric
from bench.transfer.batches import loaded_ahead
from bench.transfer.detection.average_precision import Found, Objects, average_precision
from bench.transfer.feature_extractor import Subject
from bench.transfer.transfer_training import Descent, best_rate, descended
from models.image_tower import ImageTower
from models.simple_pyramid import Heads, mask_rcnn

Annotated = tuple[UInt8[Tensor, "3 height width"], Objects]
Target = dict[str, Tensor]
SOLID = 0.5  # of a mask's probability, from which on a pixel is the object's
MOST_MEANT = 2000  # pictures whose boxes the baseline takes its means of


@runtime_checkable
class AnnotatedPictures(Protocol):
    """Pictures and the objects in them."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Annotated: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the detector is built and trained."""

    side: int  # of the square that pictures are scaled to fit into, in pixels
    heads: Heads
    descent: Descent


# CatLIP's for ViT-B, whose 25 epochs repeat each picture four times; without RangeAugment, stochastic depth and the
# sampler of several image sizes. Source: apple/corenet, `projects/catlip/object_detection/maskrcnn_vit_base.yaml`
# (two pictures on each of 64 GPUs).
PUBLISHED = Recipe(
    side=1024,
    heads=Heads(channels=256, box_features=1024, mask_layers=4, proposals=1000, regions=512),
    descent=Descent(
        epochs=100,
        batch_size=128,
        at_once=2,
        learning_rates=(3e-4, 1e-3),
        falls=(0.88, 0.96),
        warmup_share=0.01,
        layer_decay=0.7,
        ema_decay=0.9999,
    ),
)


@dataclass(frozen=True, slots=True)
class DetectionTask:
    """A data set of pictures and objects: what is tuned is tuned on `validation`, `test` is only reported."""

    name: str
    classes: tuple[str, ...]  # label k is classes[k - 1]
    train: AnnotatedPictures
    validation: AnnotatedPictures
    test: AnnotatedPictures
    recipe: Recipe
    notes: tuple[str, ...] = ()  # what a person should know of the files

    def __post_init__(self) -> None:
        """Refuse what cannot be learned or scored; each part is read up to the first picture that shows an object."""
        for what in ("train", "validation", "test"):
            part = getattr(self, what)
            if not any((~part[row][1].crowd).any() for row in range(len(part))):
                raise ValueError(f"{self.name}: no picture of the {what} part shows an object, crowds aside")


def detection(subject: Subject, task: DetectionTask) -> list[Metric]:
    """Return AP of boxes and of masks, averaged over IoU of 0.5 to 0.95 and at 0.5.

    The baseline answers every picture alike: each class's mean box, all of it the mask, by how frequent the class is.
    """
    tower, how = subject.tower, task.recipe.descent
    assert tower is not None
    tower = tower.to(subject.device)
    rates = how.rates(tower.width)

    def quality(rate: float) -> float:
        return average_precision(_told(_fitted(tower, task, task.train, rate), task.validation))["box AP"]

    rate = rates[0] if len(rates) == 1 else best_rate(rates, quality)[0]
    together = _joined(task.train, task.validation)
    found = average_precision(_told(_fitted(tower, task, together, rate), task.test))
    known = average_precision(_mean_boxes(together, task.test, len(task.classes)))
    counts = {"num_train": len(together), "num_test": len(task.test)}
    return [
        Metric(task=task.name, protocol="detection", name=name, value=found[name], baseline=known[name], **counts)
        for name in found
    ]


def _joined(first: AnnotatedPictures, second: AnnotatedPictures) -> AnnotatedPictures:
    return cast("AnnotatedPictures", ConcatDataset(cast("Any", [first, second])))


def _fitted(tower: ImageTower, task: DetectionTask, part: AnnotatedPictures, rate: float) -> MaskRCNN:
    """Train a copy of a tower with new heads: the sum of torchvision's five losses."""
    device, how = next(tower.parameters()).device, task.recipe.descent
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_for(how.seed, HEAD))
        mean_and_std = OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
        own = copy.deepcopy(tower).cpu()
        model = mask_rcnn(own, len(task.classes) + 1, task.recipe.side, mean_and_std, task.recipe.heads).to(device)

    def load(k: int) -> list[list[tuple[Tensor, Target]]]:
        rows = shuffled_rows(how.seed, len(part), first=k * how.batch_size, size=how.batch_size).tolist()
        draws = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed_for(how.seed, AUGMENTATION, k)))
        mirrored = (draws < 0.5).tolist()  # noqa: PLR2004
        batch = [_target(*part[row], mirrored=one) for row, one in zip(rows, mirrored, strict=True)]
        return [batch[first : first + how.at_once] for first in range(0, len(batch), how.at_once)]

    def loss_of(batch: list[tuple[Tensor, Target]]) -> Float[Tensor, ""]:
        images = [rgb.to(device) / WHITE for rgb, _ in batch]
        targets = [{name: value.to(device) for name, value in target.items()} for _, target in batch]
        return torch.stack(list(model(images, targets).values())).sum()

    steps = how.steps(len(part))
    learned: MaskRCNN = descended(model, own, loaded_ahead(load, steps), steps, loss_of, how, rate)
    return learned


def _target(rgb: Tensor, objects: Objects, *, mirrored: bool) -> tuple[Tensor, Target]:
    """Return a picture and what torchvision's detectors ask of it; crowds are not trained on."""
    kept = ~objects.crowd
    boxes, masks = objects.boxes[kept], objects.masks[kept].to(torch.uint8)
    if mirrored:
        left, top, right, bottom = boxes.unbind(1)
        width = rgb.shape[-1]
        boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
        rgb, masks = rgb.flip(-1), masks.flip(-1)
    return rgb, {"boxes": boxes, "labels": objects.labels[kept], "masks": masks}


@torch.inference_mode()
def _told(model: MaskRCNN, part: AnnotatedPictures) -> Iterator[tuple[Objects, Found]]:
    """Yield what is in each picture, and what the model finds."""
    device = next(model.parameters()).device
    for row in range(len(part)):
        rgb, objects = part[row]
        (told,) = model([rgb.to(device) / WHITE])
        told = {name: value.cpu() for name, value in told.items()}
        yield objects, Found(told["boxes"], told["labels"], told["scores"], told["masks"][:, 0] >= SOLID)


def _mean_boxes(train: AnnotatedPictures, part: AnnotatedPictures, num_classes: int) -> Iterator[tuple[Objects, Found]]:
    """Yield what is in each picture, and the mean box of each class of training, crowds aside, in shares of sides."""
    sums, counts = torch.zeros(num_classes, 4), torch.zeros(num_classes)
    for row in range(min(len(train), MOST_MEANT)):
        rgb, objects = train[row]
        labels = objects.labels[~objects.crowd] - 1
        sums.index_add_(0, labels, objects.boxes[~objects.crowd] / _sides(rgb))
        counts.index_add_(0, labels, torch.ones(len(labels)))
    seen = counts.nonzero()[:, 0]
    means, shares = sums[seen] / counts[seen, None], counts[seen] / counts.sum()
    for row in range(len(part)):
        rgb, objects = part[row]
        boxes = means * _sides(rgb)
        masks = torch.zeros(len(boxes), *rgb.shape[1:], dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist(), strict=True):
            mask[top:bottom, left:right] = True
        yield objects, Found(boxes, seen + 1, shares, masks)


def _sides(rgb: UInt8[Tensor, "3 height width"]) -> Float[Tensor, "4"]:
    height, width = rgb.shape[1:]
    return torch.tensor([width, height, width, height], dtype=torch.float32)
