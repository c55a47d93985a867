"""Batches of any data source: images are decoded, cropped and scaled on CPUs, normalised on the device; or embeddings.

A batch is loaded in this process or in workers (bench/data/loader_workers.py), to which the loader is handed.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bench.data.captions.choice import parse_caption_choice
from bench.data.decoding import (
    MAX_PIXELS,
    UnusableImageError,
    decode_embedding_grid,
    decode_for_crop,
)
from bench.data.image_sizes import BatchShapeSchedule, make_batch_shape_schedule
from bench.data.loader_workers import PrefetchingLoader
from bench.data.order import SampleOrder
from bench.data.samples import MIN_TOLERATED
from bench.data.stream import Batch, BatchStream, DecodeStats
from bench.data.subset import subset_rows
from bench.data.targets import CaptionsWithRows, Target, pin_tensors, to_device_async
from bench.data.transforms import (
    WHITE,
    CropParams,
    SquarePixels,
    choose_crop_box,
    draw_crop_numbers,
    normalise,
    resize_crop,
)
from bench.environment.seeds import REPLACEMENT, derive_seed
from bench.experiment.auto_fields import with_resolved_text_padding
from bench.experiment.config import Experiment
from bench.interfaces.data_source import Samples, format_counts
from bench.interfaces.method import NoTarget, get_method

T = TypeVar("T", bound=Target)
V = TypeVar("V")
# The result turns an experiment's captions into targets.
TargetFunctionMaker = Callable[[Experiment], Callable[[CaptionsWithRows], T]]
# Decoded and cropped, or embeddings.
ImageOrGrid = SquarePixels | Float[Tensor, "channels side side"]
SAMPLED_CAPTIONS = 4096  # of the data set, whose lengths decide how many rows packed captions need
MAX_REPLACEMENTS = 32  # of one image, one after the other
MAX_UNDECODABLE_FRACTION = 0.01  # of the decoded images


def require_few_unusable(stats: DecodeStats, data: str) -> None:
    """Raise ValueError if too many images of data so far were unusable."""
    unusable = stats.unusable.total()
    if unusable > max(MIN_TOLERATED, MAX_UNDECODABLE_FRACTION * stats.decoded):
        raise ValueError(
            f"{data}: {unusable:,} of {stats.decoded:,} images cannot be used ({format_counts(stats.unusable)}), "
            f"more than {MAX_UNDECODABLE_FRACTION:.0%}: repair the data, or exclude these samples by subset=FILE.csv"
        )


@dataclass(frozen=True, slots=True)
class LoadedBatch(Generic[T]):
    """A batch before it is on the device; the channels of a pixel are adjacent, as decoders have them."""

    number: int  # k of batch k
    # With several views (batch, views, channels, side, side).
    images: UInt8[Tensor, "batch *views 3 side side"] | Float[Tensor, "batch channels side side"]
    target: T
    rows: Int[Tensor, " batch"] | None  # of the samples in the data set, if the method reads them
    target_building_seconds: float
    stats: DecodeStats

    def pin_memory(self) -> "LoadedBatch[T]":
        """Return the batch in pinned memory; PyTorch's DataLoader calls it."""
        return cast("LoadedBatch[T]", pin_tensors(self))


@dataclass(frozen=True, slots=True, eq=False)
class SampleLoader(Generic[T]):
    """Loads batch k: a pure function of the experiment, the samples, the rank and k."""

    experiment: Experiment
    # A function that other processes can import; each calls it to make the targets of its own.
    targets: TargetFunctionMaker[T]
    samples: Samples
    # The samples that the experiment sees; the order numbers its samples by their places here.
    rows: Sequence[int]
    order: SampleOrder

    def __getitem__(self, k: int) -> LoadedBatch[T] | Exception:
        """Load batch k; an error that a person can mend is returned, to be raised where the batch is taken."""
        try:
            return self._load_batch(k)
        except (ValueError, OSError) as error:
            return error

    def _load_batch(self, k: int) -> LoadedBatch[T]:
        """Load the images of batch k, then make its target of the samples that are shown."""
        method = get_method(self.experiment.method)
        samples = self.order.batch_rows(k).tolist()
        side = self.order.image_side(k)
        stats = DecodeStats()
        generator = self.order.augmentation_generator(k)
        draws = [draw_crop_numbers(len(samples), generator) for _ in range(method.views)]
        images = []
        shown = []
        for sample, *drawn in zip(samples, *draws, strict=True):
            decode = partial(self._decode_views, draws=drawn, side=side)
            views, replacement = self.load_usable(sample, decode, stats)
            images += views
            shown.append(replacement)
        _get_or_make_target_function(self)  # made outside the clock, as the pack's is
        start = time.perf_counter()
        target = self.target(shown, self.order.epoch_of_each_sample(k))
        seconds = time.perf_counter() - start
        if self.experiment.image.input_embedding_grid_channels is not None:
            stacked = torch.stack(images)
        else:
            pixels = torch.stack([image.permute(1, 2, 0) for image in images])
            stacked = pixels.permute(0, 3, 1, 2)
        if method.views > 1:
            stacked = stacked.view(len(samples), method.views, *stacked.shape[1:])
        rows = None
        if method.reads_rows_and_step:
            rows = torch.tensor([self.rows[sample] for sample in shown])
        return LoadedBatch(k, stacked, target, rows, seconds, stats)

    def target(self, samples: Sequence[int], epochs: Sequence[int]) -> T:
        """Return what the method reads of the samples' captions, one drawn for each sample and epoch."""
        choice = parse_caption_choice(self.experiment.input.caption_fields)
        seed = self.experiment.seed
        rows = [self.rows[sample] for sample in samples]
        texts = []
        for row, epoch in zip(rows, epochs, strict=True):
            texts_by_field = self.samples.captions_by_field(row)
            texts.append(choice.draw(texts_by_field, seed, row, epoch))
        targets = _get_or_make_target_function(self)(CaptionsWithRows(texts, rows))
        return cast("T", targets.select(torch.arange(len(rows))))

    def keys(self, samples: Sequence[int]) -> list[str]:
        """Return the samples' names."""
        return [self.samples.key(self.rows[sample]) for sample in samples]

    def load_usable(
        self, sample: int, decode: Callable[[bytes], V], stats: DecodeStats
    ) -> tuple[V, int]:
        """Return what `decode` makes of a sample's image, and the sample that it shows.

        It is another one if the image cannot be decoded. The replacement is drawn by the seed and the number of the
        sample: it is the same in every batch and epoch. ValueError if none of many replacements can be decoded.
        """
        candidate = sample
        for attempt in range(1, MAX_REPLACEMENTS + 1):
            stats.decoded += 1
            try:
                decoded = decode(self.samples.image(self.rows[candidate]))
            except UnusableImageError as error:
                stats.unusable[str(error)] += 1
                number = derive_seed(self.experiment.seed, REPLACEMENT, sample, attempt)
                candidate = number % self.order.num_samples
            else:
                return decoded, candidate
        data = self.experiment.input.data
        key = self.samples.key(self.rows[sample])
        raise ValueError(
            f"{data}: no image can be used of {key} and of {MAX_REPLACEMENTS} others drawn for it "
            f"({format_counts(stats.unusable)})"
        )

    def _decode_views(
        self, encoded: bytes, draws: Sequence[CropParams], side: int
    ) -> list[ImageOrGrid]:
        """Decode and crop an image for each view, or read a grid of embeddings as it is."""
        channels = self.experiment.image.input_embedding_grid_channels
        if channels is not None:
            return [decode_embedding_grid(encoded, channels, side) for _ in draws]
        inputs = self.experiment.input
        min_side = side if inputs.jpeg_decoding == "reduced" else MAX_PIXELS
        views: list[ImageOrGrid] = []
        for view_draws in draws:
            drawn = view_draws.tolist()
            box_of_size = partial(choose_crop_box, drawn, area_range=inputs.crop_scale)
            image, box = decode_for_crop(encoded, box_of_size, min_side)
            views.append(resize_crop(image, box, drawn, side, flip=inputs.flip))
        return views


@lru_cache(maxsize=2)  # the last two trainings of a process
def _get_or_make_target_function(loader: SampleLoader[Any]) -> Any:
    """Return the function that turns a loader's captions into what the method reads; a process makes it once.

    Rows for packed captions are reserved by the longest texts that may be drawn of some samples, the same ones in all
    processes.
    """
    experiment = loader.experiment
    samples = loader.samples
    make = loader.targets(experiment)
    runs_text_model_on_captions = get_method(experiment.method).runs_text_model_on_captions(
        experiment
    )
    if not runs_text_model_on_captions or experiment.text.text_padding != "packed_rows":
        return make
    step = math.ceil(len(samples) / SAMPLED_CAPTIONS)
    choice = parse_caption_choice(experiment.input.caption_fields)
    longest = []
    for row in range(0, len(samples), step):
        texts = [text for text, _ in choice.weighted_texts(samples.captions_by_field(row))]
        longest.append(max(texts, key=len, default=""))
    tokens = make(CaptionsWithRows.from_texts(longest)).captions
    reserved = tokens.packed_rows_to_reserve(loader.order.batch_shapes)

    def make_targets_with_reserved_rows(captions: CaptionsWithRows) -> Any:
        target = make(captions)
        return target.with_captions(replace(target.captions, reserved_rows=reserved))

    return make_targets_with_reserved_rows


class SampleStream(BatchStream[T]):
    """Samples that are read from files. An image that cannot be decoded is counted and replaced by another sample."""

    def __init__(
        self,
        experiment: Experiment,
        samples: Samples,
        targets: TargetFunctionMaker[T],
        device: torch.device,
        *,
        rank: int = 0,
        ranks: int = 1,
        num_workers: int = 0,
        batch_shapes: BatchShapeSchedule | None = None,
    ) -> None:
        super().__init__(experiment, device)
        self.num_workers = num_workers
        rows: Sequence[int] = range(len(samples))
        subset = experiment.input.subset
        if subset:
            rows = subset_rows(subset, experiment.seed, samples.keys)
        batch_shapes = batch_shapes or make_batch_shape_schedule(experiment)
        self.order = SampleOrder(experiment.seed, len(rows), batch_shapes, rank, ranks)
        self.target_building_seconds = 0.0
        self.num_captions = 0
        resolved = with_resolved_text_padding(experiment, device)
        self.loader: SampleLoader[T] = SampleLoader(resolved, targets, samples, rows, self.order)
        self._batches: SampleLoader[T] | PrefetchingLoader[LoadedBatch[T]] = self.loader
        if num_workers:
            self._batches = PrefetchingLoader(
                self.loader,
                num_workers,
                targets.__module__,
                pin_memory=device.type == "cuda",
            )
        self.incomplete = Counter(samples.skipped)

    def load_batch_parts(self, k: int) -> LoadedBatch[T]:
        """Load batch k of this rank; ValueError if too many images so far were unusable."""
        loaded = self._batches[k]
        if isinstance(loaded, Exception):
            raise loaded
        self.stats.add(loaded.stats)
        require_few_unusable(self.stats, self.experiment.input.data)
        self.target_building_seconds += loaded.target_building_seconds
        if not isinstance(loaded.target, NoTarget):
            self.num_captions += len(loaded.images)
        return loaded

    def make_batch(self, loaded: LoadedBatch[T]) -> Batch[T]:
        images = to_device_async(loaded.images, self.device).contiguous()
        if self.experiment.image.input_embedding_grid_channels is None:
            images = normalise(images / WHITE)
        rows = None if loaded.rows is None else to_device_async(loaded.rows, self.device)
        return Batch(images, loaded.target.to(self.device), loaded.number, rows)

    def target(self, k: int) -> T:
        rows = self.order.batch_rows(k).tolist()
        return self.loader.target(rows, self.order.epoch_of_each_sample(k))

    def keys(self, k: int) -> Sequence[str]:
        rows = self.order.batch_rows(k).tolist()
        return self.loader.keys(rows)
