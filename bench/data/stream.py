"""Batch k of a run, as a pure function of the experiment, the rank and k: equal images for every method."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from bench.config import Experiment
from bench.data.pack import Pictures
from bench.data.targets import Target, to_device
from bench.profilers.clock import clock
from bench.seeds import AUGMENTATION, ORDER, seed_for

T = TypeVar("T", bound=Target)
WHITE = 255.0
ASPECT_RATIOS = (3 / 4, 4 / 3)  # of a random crop, torchvision's default


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What a step reads."""

    images: Float[Tensor, "batch 3 side side"]
    target: T


class Stream(Generic[T]):
    """Batches of the pack: shuffled by epoch, cropped, flipped, on a random background colour.

    The pictures and what the method reads of their captions are in memory; pictures are augmented on the device.
    """

    def __init__(
        self,
        experiment: Experiment,
        pictures: Pictures,
        targets: Callable[[Sequence[str]], T],
        device: torch.device,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.experiment = experiment
        self.keys = pictures.keys
        self.pixels = pictures.pixels.to(device)
        with clock(torch.device("cpu")) as elapsed:
            self.targets = targets(pictures.captions)
        self.targets_seconds = elapsed.seconds
        self.device = device
        self.rank, self.ranks = rank, ranks

    def batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank."""
        rows = self.rows(k)
        generator = torch.Generator().manual_seed(seed_for(self.experiment.seed, AUGMENTATION, self.rank, k))
        images = augment(self.pixels[to_device(rows, self.device)], self.experiment, generator)
        return Batch(images, self.targets.take(rows).to(self.device))

    def rows(self, k: int) -> Int[Tensor, " batch"]:
        """Return which pictures batch k holds: consecutive places in an endless row of shuffled epochs."""
        size = self.experiment.batch_size
        first = (k * self.ranks + self.rank) * size
        count = len(self.pixels)
        epochs = range(first // count, (first + size - 1) // count + 1)
        order = torch.cat([_order(self.experiment.seed, epoch, count) for epoch in epochs])
        return order[first - epochs[0] * count :][:size]


def augment(
    pixels: UInt8[Tensor, "batch 4 height width"], experiment: Experiment, generator: torch.Generator
) -> Float[Tensor, "batch 3 side side"]:
    """Crop and scale at random, flip at random, put on a random colour, normalise."""
    batch, device = len(pixels), pixels.device
    shape = (batch, 4, experiment.image_size, experiment.image_size)
    crops = to_device(_crops(batch, experiment, generator), device)
    colours = to_device(torch.rand(batch, 3, 1, 1, generator=generator), device)
    rgba = F.grid_sample(pixels.float(), F.affine_grid(crops, list(shape), align_corners=False), align_corners=False)
    return on_background(rgba, colours)


def for_scoring(pixels: UInt8[Tensor, "batch 4 height width"], image_size: int) -> Float[Tensor, "batch 3 side side"]:
    """Scale whole pictures, put them on white, normalise: what a tower is given when it is scored."""
    rgba = F.interpolate(pixels.float(), (image_size, image_size), mode="bilinear", antialias=True)
    return on_background(rgba, torch.ones(1, 3, 1, 1, device=pixels.device))


def on_background(
    rgba: Float[Tensor, "batch 4 height width"], colour: Float[Tensor, "_ 3 1 1"]
) -> Float[Tensor, "batch 3 height width"]:
    """Put premultiplied pictures of range 0 to 255 on a colour of range 0 to 1; normalise as open_clip does."""
    rgb = rgba[:, :3] / WHITE + (1 - rgba[:, 3:] / WHITE) * colour
    mean, std = _normalisation(rgba.device)
    return (rgb - mean) / std


@cache
def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation on a device, copied there once."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return mean.to(device), std.to(device)


def _crops(batch: int, experiment: Experiment, generator: torch.Generator) -> Float[Tensor, "batch 2 3"]:
    """Draw boxes as torchvision's RandomResizedCrop does, as maps from output to input coordinates (both -1 to 1).

    A box that does not fit is cut to the picture, where torchvision draws again.
    """
    draw = torch.rand(5, batch, generator=generator)
    low, high = experiment.crop_scale
    area = low + (high - low) * draw[0]
    narrow, wide = map(math.log, ASPECT_RATIOS)
    ratio = torch.exp(narrow + (wide - narrow) * draw[1])
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    mirrored = torch.where(draw[4] < 0.5, -1.0, 1.0) if experiment.flip else torch.ones(batch)  # noqa: PLR2004
    maps = torch.zeros(batch, 2, 3)
    maps[:, 0, 0], maps[:, 1, 1] = width * mirrored, height
    maps[:, 0, 2], maps[:, 1, 2] = (2 * draw[2] - 1) * (1 - width), (2 * draw[3] - 1) * (1 - height)
    return maps


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> Int[Tensor, " count"]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed_for(seed, ORDER, epoch)))
