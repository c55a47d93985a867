"""Batch k of a run, a pure function of the experiment, the rank and k: equal images for every method.

Batches of the shipped pack are shuffled by epoch, cropped, flipped, and put on a random background colour.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bench.data.image_sizes import BatchShapeSchedule, make_batch_shape_schedule
from bench.data.order import SampleOrder
from bench.data.pack import PackImages
from bench.data.subset import subset_rows
from bench.data.targets import CaptionsWithRows, Target, pin_tensors, to_device_async
from bench.data.transforms import LOG_ASPECT_RATIOS, WHITE, normalise
from bench.experiment.config import Experiment
from bench.experiment.fields import SampleSettings
from bench.interfaces.method import NoTarget, get_method
from models import ImagesOrViews

T = TypeVar("T", bound=Target)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Images and targets of a step."""

    # Normalised pixels (3 channels) or embeddings; with several views (batch, views, channels, side, side).
    images: ImagesOrViews
    target: T
    number: int = 0  # k of batch k
    # Of the samples in the data set; None: the method does not read them.
    rows: Int[Tensor, " batch"] | None = None

    @property
    def sample_rows_and_step_kwargs(self) -> dict[str, Any]:
        """The further arguments of the loss of a method that reads rows and step; none for other methods."""
        return {} if self.rows is None else {"rows": self.rows, "step": self.number}

    def compute_loss(
        self, loss: Callable[..., Tensor], model: Any, process_group: Any = None
    ) -> Tensor:
        """Return the loss; `loss` is the function of the method."""
        return loss(
            model, self.images, self.target, process_group, **self.sample_rows_and_step_kwargs
        )

    def split_into_micro_batches(self, count: int) -> "list[Batch[T]]":
        """Split it into `count` equal micro-batches."""
        if count == 1:
            return [self]
        parts = []
        all_positions = torch.arange(len(self.images))
        chunks = zip(all_positions.chunk(count), self.images.chunk(count), strict=True)
        for positions, images in chunks:
            first = int(positions[0])
            rows = None if self.rows is None else self.rows[first : first + len(images)]
            parts.append(Batch(images, self.target.select(positions), self.number, rows))
        return parts


@dataclass(slots=True)
class DecodeStats:
    """Counts of the images that were decoded, and of those that could not be."""

    decoded: int = 0  # or tried to
    unusable: Counter[str] = field(default_factory=Counter)  # by what is wrong with them

    def add(self, other: "DecodeStats") -> None:
        self.decoded += other.decoded
        self.unusable += other.unusable


class BatchStream(ABC, Generic[T]):
    """Batches of a data set on a device, addressed by number."""

    experiment: Experiment
    device: torch.device
    # Samples of the data set that lack an image or a caption, by what they lack.
    incomplete: Counter[str]
    stats: DecodeStats  # of the batches so far, those before a resume included
    order: SampleOrder
    target_building_seconds: float  # spent so far to turn captions into targets
    num_captions: int  # turned into targets in that time
    wait_seconds: float = 0.0  # that `batch` has taken so far
    num_workers = 0  # processes that load batches; 0: this process does

    def __init__(self, experiment: Experiment, device: torch.device) -> None:
        self.experiment = experiment
        self.device = device
        self.incomplete = Counter[str]()
        self.stats = DecodeStats()

    @property
    def skipped(self) -> dict[str, int]:
        """Number of samples skipped so far, by reason."""
        return dict(self.incomplete + self.stats.unusable)

    def batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank on the device.

        The time is added to `wait_seconds`. On a GPU loading and pinning count: what follows is launched, and may wait
        for a full queue of earlier launches.
        """
        is_gpu = self.device.type == "cuda"
        start = time.perf_counter()
        loaded = self.load_batch_parts(k)
        if is_gpu:
            loaded = pin_tensors(loaded)
        loaded_at = time.perf_counter()
        batch = self.make_batch(loaded)
        end = loaded_at if is_gpu else time.perf_counter()
        self.wait_seconds += end - start
        return batch

    @abstractmethod
    def load_batch_parts(self, k: int) -> Any:
        """Return what batch k of this rank is made of, on the CPU."""

    @abstractmethod
    def make_batch(self, loaded: Any) -> Batch[T]:
        """Return the batch of what was loaded, on the device."""

    @abstractmethod
    def target(self, k: int) -> T:
        """Return the target of batch k of this rank, on the CPU.

        It is the target as if all images could be decoded.
        """

    @abstractmethod
    def keys(self, k: int) -> Sequence[str]:
        """Return the keys of batch k's samples."""


class PackStream(BatchStream[T]):
    """The images and what the method reads of their captions are in memory; images are augmented on the device."""

    def __init__(
        self,
        experiment: Experiment,
        images: PackImages,
        targets: Callable[[CaptionsWithRows], T],
        device: torch.device,
        *,
        rank: int = 0,
        ranks: int = 1,
        batch_shapes: BatchShapeSchedule | None = None,
    ) -> None:
        super().__init__(experiment, device)
        rows = subset_rows(experiment.input.subset, experiment.seed, images.keys)
        batch_shapes = batch_shapes or make_batch_shape_schedule(experiment)
        self.order = SampleOrder(experiment.seed, len(rows), batch_shapes, rank, ranks)
        pixels = images.premultiplied_rgba
        if not isinstance(rows, range):
            pixels = pixels[torch.tensor(rows)]
        self.premultiplied_rgba = pixels.to(device)
        self._rows = torch.tensor(rows).to(device)
        captions = CaptionsWithRows([images.captions[row] for row in rows], rows)
        start = time.perf_counter()
        self.targets = targets(captions)
        self.target_building_seconds = time.perf_counter() - start
        self.num_captions = 0 if isinstance(self.targets, NoTarget) else len(rows)
        tokens = self.targets.captions
        if tokens is not None:
            reserved = tokens.packed_rows_to_reserve(batch_shapes)
            self.targets = self.targets.with_captions(replace(tokens, reserved_rows=reserved))
        self._keys = [images.keys[row] for row in rows]

    def load_batch_parts(self, k: int) -> tuple[int, T]:
        return k, self.target(k)  # images are made on the device from the batch number

    def make_batch(self, loaded: tuple[int, T]) -> Batch[T]:
        k, target = loaded
        rows = to_device_async(self.order.batch_rows(k), self.device)
        side = self.order.image_side(k)
        generator = self.order.augmentation_generator(k)
        method = get_method(self.experiment.method)
        pixels = self.premultiplied_rgba[rows]
        views = [
            augment_pack_images(pixels, self.experiment.input, side, generator)
            for _ in range(method.views)
        ]
        images = views[0] if len(views) == 1 else torch.stack(views, 1)
        sample_rows = self._rows[rows] if method.reads_rows_and_step else None
        return Batch(images, target.to(self.device), k, sample_rows)

    def target(self, k: int) -> T:
        return self.targets.select(self.order.batch_rows(k))

    def keys(self, k: int) -> Sequence[str]:
        rows = self.order.batch_rows(k).tolist()
        return [self._keys[row] for row in rows]


def augment_pack_images(
    pixels: UInt8[Tensor, "batch 4 height width"],
    inputs: SampleSettings,
    side: int,
    generator: torch.Generator,
) -> Float[Tensor, "batch 3 side side"]:
    """Crop, scale to `side` and flip at random, put on a random background colour, normalise."""
    num_images = len(pixels)
    maps = _draw_crop_flip_maps(num_images, inputs, generator)
    colours = torch.rand(num_images, 3, 1, 1, generator=generator)
    maps = to_device_async(maps, pixels.device)
    grid = F.affine_grid(maps, [num_images, 4, side, side], align_corners=False)
    rgba = F.grid_sample(pixels.float(), grid, align_corners=False)
    return composite_and_normalise(rgba, to_device_async(colours, pixels.device))


def composite_and_normalise(
    premultiplied_rgba: Float[Tensor, "batch 4 height width"], background: Float[Tensor, "_ 3 1 1"]
) -> Float[Tensor, "batch 3 height width"]:
    """Put premultiplied images of range 0 to 255 on colours of range 0 to 1; normalise as open_clip does."""
    rgba = premultiplied_rgba / WHITE
    alpha = rgba[:, 3:]
    rgb = rgba[:, :3] + (1 - alpha) * background
    return normalise(rgb)


def _draw_crop_flip_maps(
    num_images: int, inputs: SampleSettings, generator: torch.Generator
) -> Float[Tensor, "images 2 3"]:
    """Draw boxes as torchvision's RandomResizedCrop does, as maps from output to input coordinates (both -1 to 1).

    A box that does not fit is cut to the image, where torchvision draws again.
    """
    area_draw, ratio_draw, x_draw, y_draw, flip_draw = torch.rand(
        5, num_images, generator=generator
    )
    low, high = inputs.crop_scale
    area = low + (high - low) * area_draw
    narrow, wide = LOG_ASPECT_RATIOS
    ratio = torch.exp(narrow + (wide - narrow) * ratio_draw)
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    direction = torch.ones(num_images)
    if inputs.flip:
        direction[flip_draw < 0.5] = -1.0  # noqa: PLR2004
    x_shift = (2 * x_draw - 1) * (1 - width)
    y_shift = (2 * y_draw - 1) * (1 - height)
    zeros = torch.zeros(num_images)
    x_map = torch.stack([width * direction, zeros, x_shift], dim=1)
    y_map = torch.stack([zeros, height, y_shift], dim=1)
    return torch.stack([x_map, y_map], dim=1)
