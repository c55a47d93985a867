"""Semantic segmentation: a linear head on a frozen tower, and DeepLabV3's head trained with the tower; mean IoU."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import ConcatDataset
from torchmetrics.classification import MulticlassJaccardIndex
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as pictured

from bench.data.normalisation import WHITE, normalised
from bench.data.order import shuffled_rows
from bench.environment.seeds import AUGMENTATION, HEAD, seed_for
from bench.record import Metric
from bench.transfer.batches import loaded_ahead
from bench.transfer.feature_extractor import Subject
from bench.transfer.transfer_training import Descent, best_rate, descended
from models.image_tower import ImageTower
from models.patch_map import map_shape
from models.segmenter import ASPP_CHANNELS, Segmenter, with_deeplab_head, with_linear_head

IGNORED = 255  # in a mask: neither trained on nor counted
MOST_STRETCHED = 2.0  # longer side of a training picture before it is cropped, over the crop's
Pair = tuple[UInt8[Tensor, "3 height width"], UInt8[Tensor, "height width"]]


@runtime_checkable
class MaskedPictures(Protocol):
    """Pictures and the class of each of their pixels, or IGNORED."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Pair: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How both heads are trained."""

    side: int  # of the square that pictures are cropped to for training and squeezed to for scoring, in pixels
    scales: tuple[float, float]  # what a training picture's shorter side is scaled to at random, over `side`
    channels: int = ASPP_CHANNELS
    linear: Descent
    deeplab: Descent


# DeepLabV3's is CatLIP's, without RangeAugment, and with crops that one class may fill. The rates are a linear head's
# on frozen features. Source: Mehta et al. 2024 (arXiv 2404.15653), section 5.2; apple/corenet,
# `projects/catlip/semantic_segmentation/deeplabv3_vit_base.yaml` (512 px, 4 pictures on each of 8 GPUs).
PUBLISHED = Recipe(
    side=512,
    scales=(0.5, 1.5),
    linear=Descent(epochs=10, batch_size=32, at_once=32, learning_rates=(1e-3, 1e-2), train_tower=False),
    deeplab=Descent(epochs=50, batch_size=32, at_once=8, learning_rates=(3e-5, 1e-4, 3e-4, 1e-3), ema_decay=0.9999),
)


@dataclass(frozen=True, slots=True)
class SegmentationTask:
    """A data set of pictures and masks: what is tuned is tuned on `validation`, `test` is only reported."""

    name: str
    classes: tuple[str, ...]
    train: MaskedPictures
    validation: MaskedPictures
    test: MaskedPictures
    recipe: Recipe
    notes: tuple[str, ...] = ()  # what a person should know of the files

    def __post_init__(self) -> None:
        """Refuse what cannot be learned or scored; each part is read up to the first picture that has a class."""
        for what in ("train", "validation", "test"):
            part = getattr(self, what)
            if not any((part[row][1] != IGNORED).any() for row in range(len(part))):
                raise ValueError(f"{self.name}: no pixel of the {what} part has a class")


def segmentation(subject: Subject, task: SegmentationTask) -> list[Metric]:
    """Return mean IoU with both heads, and what one class a patch could reach at best.

    The baseline is what the commonest class everywhere would reach.
    """
    tower, recipe = subject.tower, task.recipe
    assert tower is not None
    tower = tower.to(subject.device)
    patch = map_shape(tower)[1]
    side = max(1, round(recipe.side / patch)) * patch
    num_classes, num_train = len(task.classes), len(task.train) + len(task.validation)

    def metric(name: str, value: float, baseline: float) -> Metric:
        counts = {"num_train": num_train, "num_test": len(task.test)}
        return Metric(task=task.name, protocol="segmentation", name=name, value=value, baseline=baseline, **counts)

    deeplab = partial(with_deeplab_head, channels=recipe.channels)
    found = []
    for name, put, how in (("linear head", with_linear_head, recipe.linear), ("DeepLabV3", deeplab, recipe.deeplab)):
        fit = partial(_fitted, tower, put, num_classes, side, recipe.scales, how)
        model = fit(*_chosen(task, how.rates(tower.width), fit, side))
        found.append(metric(f"mIoU, {name}", *mean_iou(partial(_told, model), task.test, num_classes, side)))
    best = partial(_by_patch, patch=patch)
    return [*found, metric("mIoU, one class a patch at best", *mean_iou(best, task.test, num_classes, side))]


@torch.inference_mode()
def mean_iou(
    tell: Callable[[Sequence[Pair], int], Iterator[Tensor]], part: MaskedPictures, num_classes: int, side: int
) -> tuple[float, float]:
    """Return intersection over union of all pixels together, averaged over classes, and that of the commonest class.

    Classes that a part neither has nor is told are left out, pixels that are IGNORED too. `tell` takes pairs and a side
    in pixels, and returns the class of each pixel.
    """
    metric = MulticlassJaccardIndex(num_classes, average="macro", ignore_index=IGNORED, validate_args=False)
    for first in range(0, len(part), AT_ONCE):
        pairs = [part[row] for row in range(first, min(first + AT_ONCE, len(part)))]
        for (_, mask), told in zip(pairs, tell(pairs, side), strict=True):
            metric.update(told.cpu()[None], mask.long()[None])
    pixels = metric.confmat.sum(1)
    commonest = pixels.max() / pixels.sum() / (pixels > 0).sum()
    return float(metric.compute()), float(commonest)


AT_ONCE = 16  # pictures that are scored together


def cropped(
    pair: Pair, side: int, scales: tuple[float, float], generator: torch.Generator
) -> tuple[UInt8[Tensor, "3 side side"], UInt8[Tensor, "side side"]]:
    """Scale a picture and its mask at random, cut out a square, flip half of them; what the square lacks is ignored."""
    rgb, mask = pair
    stretch, down, across, mirrored = torch.rand(4, generator=generator).tolist()
    shorter, longer = sorted(mask.shape)
    scale = min(side * (scales[0] + (scales[1] - scales[0]) * stretch) / shorter, MOST_STRETCHED * side / longer)
    size = [max(1, round(length * scale)) for length in mask.shape]
    rgb = pictured.resize(rgb, size, antialias=True)
    mask = pictured.resize(mask[None], size, InterpolationMode.NEAREST_EXACT)
    lacking = [0, max(0, side - size[1]), 0, max(0, side - size[0])]
    rgb, mask = F.pad(rgb, lacking), F.pad(mask, lacking, value=IGNORED)[0]
    top, left = (int(share * (have - side + 1)) for share, have in zip((down, across), mask.shape, strict=True))
    rgb, mask = (one[..., top : top + side, left : left + side] for one in (rgb, mask))
    return (rgb.flip(-1), mask.flip(-1)) if mirrored < 0.5 else (rgb, mask)  # noqa: PLR2004


def _chosen(
    task: SegmentationTask, rates: Sequence[float], fit: Callable[[MaskedPictures, float], Segmenter], side: int
) -> tuple[MaskedPictures, float]:
    """Return all pictures to train on, and the rate whose model is best on the validation part."""

    def quality(rate: float) -> float:
        return mean_iou(partial(_told, fit(task.train, rate)), task.validation, len(task.classes), side)[0]

    return _joined(task.train, task.validation), rates[0] if len(rates) == 1 else best_rate(rates, quality)[0]


def _joined(first: MaskedPictures, second: MaskedPictures) -> MaskedPictures:
    return cast("MaskedPictures", ConcatDataset(cast("Any", [first, second])))


def _fitted(
    tower: ImageTower,
    put: Callable[[ImageTower, int], Segmenter],
    num_classes: int,
    side: int,
    scales: tuple[float, float],
    how: Descent,
    part: MaskedPictures,
    rate: float,
) -> Segmenter:
    """Train a copy of a tower with a new head; cross-entropy in nats, over the pixels that count."""
    device = next(tower.parameters()).device
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_for(how.seed, HEAD))
        model = put(copy.deepcopy(tower).cpu(), num_classes).to(device)

    def load(k: int) -> list[tuple[Tensor, Tensor]]:
        rows = shuffled_rows(how.seed, len(part), first=k * how.batch_size, size=how.batch_size)
        generator = torch.Generator().manual_seed(seed_for(how.seed, AUGMENTATION, k))
        crops = [cropped(part[row], side, scales, generator) for row in rows.tolist()]
        rgb, masks = (torch.stack(one) for one in zip(*crops, strict=True))
        return list(zip(torch.split(rgb, how.at_once), torch.split(masks, how.at_once), strict=True))

    def loss_of(batch: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
        rgb, masks = (one.to(device) for one in batch)
        logits = model(normalised(rgb / WHITE))
        sum_of_all = F.cross_entropy(logits, masks.long(), ignore_index=IGNORED, reduction="sum")
        return sum_of_all / (masks != IGNORED).sum().clamp(min=1)

    steps = how.steps(len(part))
    return descended(model, model.tower, loaded_ahead(load, steps), steps, loss_of, how, rate)


def _told(model: Segmenter, pairs: Sequence[Pair], side: int) -> Iterator[Tensor]:
    """Tell the class of each pixel: pictures are squeezed to a square, logits stretched to what they were."""
    device = next(model.parameters()).device
    squeezed = torch.stack([pictured.resize(rgb, [side, side], antialias=True) for rgb, _ in pairs])
    for logits, (_, mask) in zip(model(normalised(squeezed.to(device) / WHITE)), pairs, strict=True):
        yield F.interpolate(logits[None], list(mask.shape), mode="bilinear")[0].argmax(0)


def _by_patch(pairs: Sequence[Pair], side: int, patch: int) -> Iterator[Tensor]:
    """Tell the commonest class of each patch, read off the mask: what no answer by patch can surpass by much."""
    for _, mask in pairs:
        squeezed = pictured.resize(mask[None], [side, side], InterpolationMode.NEAREST_EXACT)[0]
        commonest = squeezed.unfold(0, patch, patch).unfold(1, patch, patch).flatten(2).mode(-1).values
        commonest[commonest == IGNORED] = 0
        yield F.interpolate(commonest[None, None].float(), list(mask.shape), mode="nearest-exact")[0, 0].long()
