"""Batches of tar shards: images are decoded, cropped and scaled on CPUs and normalised on the device; or embeddings."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, Generic, TypeVar, cast

import torch
from torch.utils.data import DataLoader

from bench.config import Experiment
from bench.data.normalisation import WHITE, normalise
from bench.data.order import SampleOrder
from bench.data.shards.loader import DecodeStats, LoadedBatch, ShardLoader, TargetsOf
from bench.data.shards.shards import MIN_TOLERATED, Shards, format_counts, open_samples
from bench.data.stream import Batch, Stream
from bench.data.subset import subset_rows
from bench.data.targets import Target, to_device

T = TypeVar("T", bound=Target)
MAX_UNUSABLE_SHARE = 0.01  # largest fraction of the decoded images
START_METHOD = "spawn"  # a forked process may inherit a lock that a thread of its parent held, and deadlock


class ShardStream(Stream[T]):
    """Samples of tar shards. An image that cannot be decoded is counted and replaced by another sample."""

    def __init__(
        self,
        experiment: Experiment,
        shards: Shards,
        targets: TargetsOf[T],
        device: torch.device,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.experiment, self.device = experiment, device
        rows = subset_rows(experiment, open_samples(shards).keys)
        self.order = SampleOrder(experiment, len(rows), rank, ranks)
        self.targets_seconds, self.num_captions = 0.0, 0
        self._loader: ShardLoader[T] = ShardLoader(experiment, targets, shards, rows, self.order)
        self._load: Callable[[int], LoadedBatch[T] | Exception] = self._loader.__getitem__
        if experiment.workers:
            self._load = PrefetchingLoader(self._loader, experiment.workers)
        self._lacking, self._seen = shards.skipped, DecodeStats()
        self.is_unverified = bool(shards.unverified)

    @property
    def skipped(self) -> dict[str, int]:
        return dict(self._lacking + self._seen.unusable)

    def make_batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank; ValueError if too many images so far were unusable."""
        loaded = self._load(k)
        if isinstance(loaded, Exception):
            raise loaded
        self._seen.add(loaded.seen)
        unusable, decoded = self._seen.unusable, self._seen.decoded
        if unusable.total() > max(MIN_TOLERATED, MAX_UNUSABLE_SHARE * decoded):
            raise ValueError(
                f"{unusable.total():,} of {decoded:,} images cannot be used ({format_counts(unusable)}), "
                f"more than {MAX_UNUSABLE_SHARE:.0%}: repair the shards, or exclude these samples by subset=FILE.csv"
            )
        self.targets_seconds += loaded.targets_seconds
        self.num_captions += len(loaded.images)
        images = to_device(loaded.images, self.device)
        pixels = self.experiment.embedding_channels is None
        return Batch(normalise(images / WHITE) if pixels else images, loaded.target.to(self.device))

    def target(self, k: int) -> T:
        """Return the target of batch k of this rank, on the CPU.

        It accounts for the replacements of unusable images only after the batch was loaded.
        """
        return self._loader.target(self._samples(k))

    def keys(self, k: int) -> Sequence[str]:
        return self._loader.keys(self._samples(k))

    def _samples(self, k: int) -> list[int]:
        return self._loader.with_replacements(self.order.batch_rows(k).tolist(), self._seen.replaced)


class PrefetchingLoader(Generic[T]):
    """Returns batch k while workers load k + 1, k + 2, …; a k out of sequence restarts the workers there."""

    def __init__(self, loader: ShardLoader[T], workers: int) -> None:
        self._numbers = _IndicesFrom()
        self._loader: DataLoader[LoadedBatch[T] | Exception] = DataLoader(
            cast("Any", loader),
            batch_size=None,
            sampler=self._numbers,
            num_workers=workers,
            collate_fn=_identity,
            multiprocessing_context=START_METHOD,
            persistent_workers=True,
            generator=torch.Generator(),  # otherwise each start would draw from the model's generator
        )
        self._batches: Iterator[LoadedBatch[T] | Exception] = iter(())

    def __call__(self, k: int) -> LoadedBatch[T] | Exception:
        if k != self._numbers.next:
            self._numbers.next = k
            self._batches = iter(self._loader)
        self._numbers.next = k + 1
        return next(self._batches)


class _IndicesFrom:
    """All numbers from `next` on."""

    next = -1

    def __iter__(self) -> Iterator[int]:
        return count(self.next)


def _identity(batch: Any) -> Any:
    return batch
