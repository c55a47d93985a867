"""Batches of tar shards: decoded, cropped and scaled on CPUs as bytes, normalised on the device; or embeddings."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from bench.config import Experiment
from bench.data.normalisation import WHITE, normalised
from bench.data.order import Order
from bench.data.shards.loader import Loaded, Seen, ShardLoader, TargetsOf
from bench.data.shards.prefetch import Prefetched
from bench.data.shards.shards import FEWEST_TOLERATED, Shards, opened, told_counts
from bench.data.stream import Batch, Stream
from bench.data.subset import subset_rows
from bench.data.targets import Target, to_device

T = TypeVar("T", bound=Target)
MOST_UNUSABLE = 0.01  # of the images decoded


class ShardStream(Stream[T]):
    """Samples of tar shards. An image that cannot be decoded is counted, and another sample takes its place."""

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
        rows = subset_rows(experiment, opened(shards).keys)
        self.order = Order(experiment, len(rows), rank, ranks)
        self.targets_seconds, self.num_captions = 0.0, 0
        self._loader: ShardLoader[T] = ShardLoader(experiment, targets, shards, rows, self.order)
        self._take: Callable[[int], Loaded[T] | Exception] = self._loader.__getitem__
        if experiment.workers:
            self._take = Prefetched(self._loader, experiment.workers)
        self._lacking, self._seen = shards.skipped, Seen()
        self._is_unverified = bool(shards.unverified)

    @property
    def skipped(self) -> dict[str, int]:
        """Samples that lack something, and images that could not be decoded so far, by what is wrong."""
        return dict(self._lacking + self._seen.unusable)

    @property
    def is_unverified(self) -> bool:
        """Whether a shard has no manifest beside it."""
        return self._is_unverified

    def make_batch(self, k: int) -> Batch[T]:
        """Return batch k of this rank; ValueError where too many images so far were unusable."""
        loaded = self._take(k)
        if isinstance(loaded, Exception):
            raise loaded
        self._seen.add(loaded.seen)
        self._require_few_unusable()
        self.targets_seconds += loaded.targets_seconds
        self.num_captions += len(loaded.images)
        images = to_device(loaded.images, self.device)
        pixels = self.experiment.embedding_channels is None
        return Batch(normalised(images / WHITE) if pixels else images, loaded.target.to(self.device))

    def target(self, k: int) -> T:
        """Return what batch k of this rank reads beside its images, on the CPU.

        It is that of the batch where the batch was taken before; else unusable images are not yet known.
        """
        return self._loader.target(self._samples(k))

    def keys(self, k: int) -> Sequence[str]:
        """Return the names of batch k's samples, as `target` knows them."""
        return self._loader.keys(self._samples(k))

    def _samples(self, k: int) -> list[int]:
        return self._loader.taken(self.order.rows(k).tolist(), self._seen.replaced)

    def _require_few_unusable(self) -> None:
        unusable, decoded = self._seen.unusable, self._seen.decoded
        if unusable.total() > max(FEWEST_TOLERATED, MOST_UNUSABLE * decoded):
            raise ValueError(
                f"{unusable.total():,} of {decoded:,} images cannot be used ({told_counts(unusable)}), "
                f"more than {MOST_UNUSABLE:.0%}"
            )
