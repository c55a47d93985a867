"""Batch k of tar shards as it can be made anywhere: in this process, or in a worker that was handed the loader."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bench.config import Experiment
from bench.data.crops import CropParams, crop_and_resize, draw_crop_params
from bench.data.decoding import UnusableImageError, decode_image
from bench.data.embeddings import decode_grid
from bench.data.order import SampleOrder
from bench.data.shards.shards import Shards, format_counts, open_samples
from bench.data.targets import Captions, Target
from bench.environment.seeds import AUGMENTATION, REPLACEMENT, seed_for

T = TypeVar("T", bound=Target)
TargetsOf = Callable[[Experiment], Callable[[Captions], T]]  # what turns an experiment's captions into targets
ImageOrGrid = UInt8[Tensor, "3 side side"] | Float[Tensor, "channels side side"]  # decoded and cropped, or embeddings
MAX_REPLACEMENTS = 32  # of one image, one after the other


@dataclass(frozen=True, slots=True)
class LoadedBatch(Generic[T]):
    """A batch before it is on the device."""

    images: UInt8[Tensor, "batch 3 side side"] | Float[Tensor, "batch channels side side"]
    target: T
    targets_seconds: float
    seen: "DecodeStats"


@dataclass(slots=True)
class DecodeStats:
    """What became of the images that were read."""

    decoded: int = 0  # or tried to
    unusable: Counter[str] = field(default_factory=Counter)  # by what is wrong with them
    replaced: dict[int, int] = field(default_factory=dict)  # samples, by the sample whose place they took

    def add(self, other: "DecodeStats") -> None:
        """Add another."""
        self.decoded += other.decoded
        self.unusable += other.unusable
        self.replaced |= other.replaced


@dataclass(frozen=True, slots=True)
class ShardLoader(Generic[T]):
    """Loads batch k: a pure function of the experiment, the shards, the rank and k."""

    experiment: Experiment
    targets: TargetsOf[T]  # a function that other processes can import, which make their own of it
    shards: Shards
    rows: Sequence[int]  # of the shards, that the experiment sees; the order numbers its samples by their places here
    order: SampleOrder

    def __getitem__(self, k: int) -> LoadedBatch[T] | Exception:
        """Load batch k; an error that a person can mend is returned, to be raised where the batch is taken."""
        try:
            return self._load(k)
        except (ValueError, OSError) as error:
            return error

    def _load(self, k: int) -> LoadedBatch[T]:
        places, side, seen = self.order.batch_rows(k).tolist(), self.order.image_size(k), DecodeStats()
        generator = torch.Generator().manual_seed(seed_for(self.experiment.seed, AUGMENTATION, self.order.rank, k))
        draws = draw_crop_params(len(places), generator)
        images = [self._image(place, drawn, side, seen) for place, drawn in zip(places, draws, strict=True)]
        cached_targets(self.targets, self.experiment, self.shards)  # made outside the clock, as the pack's is
        start = time.perf_counter()
        target = self.target(self.with_replacements(places, seen.replaced))
        return LoadedBatch(torch.stack(images), target, time.perf_counter() - start, seen)

    def with_replacements(self, places: Sequence[int], replaced: dict[int, int]) -> list[int]:
        """Return the samples that fill the places of samples."""
        return [replaced.get(place, place) for place in places]

    def target(self, samples: Sequence[int]) -> T:
        """Return what the method reads of the samples' captions."""
        shards, rows = open_samples(self.shards), [self.rows[sample] for sample in samples]
        captions = Captions([shards.caption(row) for row in rows], [shards.position(row) for row in rows], shards.total)
        target: T = cached_targets(self.targets, self.experiment, self.shards)(captions).select(torch.arange(len(rows)))
        return target

    def keys(self, samples: Sequence[int]) -> list[str]:
        """Return the samples' names."""
        return [open_samples(self.shards).key(self.rows[sample]) for sample in samples]

    def _image(self, sample: int, draws: CropParams, side: int, seen: DecodeStats) -> ImageOrGrid:
        """Read a sample's image, or that of the sample that takes its place.

        Where an image cannot be decoded, a sample drawn by the seed and the number of the sample replaces it, its
        caption included: the same one each time, in every batch and epoch.
        """
        shards = open_samples(self.shards)
        tries = [sample]
        while len(tries) <= MAX_REPLACEMENTS:
            seen.decoded += 1
            try:
                image = self._read(shards.image(self.rows[tries[-1]]), draws, side)
            except UnusableImageError as error:
                seen.unusable[str(error)] += 1
                seed = seed_for(self.experiment.seed, REPLACEMENT, sample, len(tries))
                tries.append(seed % self.order.num_samples)
                continue
            if tries[-1] != sample:
                seen.replaced[sample] = tries[-1]
            return image
        raise ValueError(
            f"{self.shards.data}: neither {self.keys([sample])[0]} nor any of {MAX_REPLACEMENTS} others drawn for it "
            f"has an image that can be used ({format_counts(seen.unusable)})"
        )

    def _read(self, encoded: bytes, draws: CropParams, side: int) -> ImageOrGrid:
        """Decode and crop an image, or read a grid of embeddings as it is."""
        if (channels := self.experiment.embedding_channels) is not None:
            return decode_grid(encoded, channels, side)
        experiment = self.experiment
        return crop_and_resize(decode_image(encoded), draws, experiment.crop_scale, side, flip=experiment.flip)


@lru_cache(maxsize=2)  # of many trainings in one process the last two's
def cached_targets(targets: TargetsOf[Any], experiment: Experiment, _of: Shards) -> Any:
    """Return the function that turns captions of shards into what the method reads; a process makes it once."""
    return targets(experiment)
