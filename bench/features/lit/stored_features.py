"""The features of a locked image tower for all images of a data set, computed once and stored in a file."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.data.decoding import Pixels, decode_image
from bench.data.sample_stream import SampleLoader, SampleStream, require_few_unusable
from bench.data.samples import training_files_digest
from bench.data.stream import BatchStream, DecodeStats, PackStream
from bench.environment.circumstances import RunCircumstances, count_devices
from bench.environment.files import atomic_write, decode_json
from bench.experiment.config import Experiment
from bench.profilers.clock import time_synchronized_block
from bench.towers.tower_from import LoadedTower
from bench.train.distributed import AUTOCAST_DTYPES
from bench.transfer.feature_extractor import make_tower_embedder
from bench.transfer.tasks.image_sources import ArrayImageSource, composite_on_white


class FeatureCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the features took, and which images could not be decoded."""

    seconds: float  # device seconds
    # The sample whose features stand in for a sample's, by the number of the sample.
    replacements: dict[int, int]
    unusable: dict[str, int]  # number of images by what is wrong with them


class StoredFeatures(NamedTuple):
    """Features in the order of an experiment's samples, with their cost."""

    values: Float[np.ndarray, "samples width"]
    cost: FeatureCost
    digest: str = ""  # of what they depend on

    def shown_samples(self) -> Int[Tensor, " samples"]:
        """Return for each sample the sample whose image, and caption, stand in its place."""
        shown = torch.arange(len(self.values))
        for sample, replacement in self.cost.replacements.items():
            shown[sample] = replacement
        return shown


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTrainingImages:
    """The whole images of training samples, without augmentation; transparent pixels are white.

    An image that cannot be decoded is replaced, as in a training. ValueError for too many of them.
    """

    loader: SampleLoader[Any]
    replacements: dict[int, int] = field(default_factory=dict)  # as in `FeatureCost`
    stats: DecodeStats = field(default_factory=DecodeStats)
    _lock: Lock = field(default_factory=Lock)  # images are read by several threads
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.loader.rows)

    def rgb(self, row: int) -> Pixels:
        """Return the image of a sample, or of the one that replaces it."""
        stats = DecodeStats()
        image, shown = self.loader.load_usable(row, decode_image, stats)
        with self._lock:
            self.stats.add(stats)
            if shown != row:
                self.replacements[row] = shown
            require_few_unusable(self.stats, self.loader.experiment.input.data)
        return image


def open_training_images(
    stream: BatchStream[Any],
) -> ArrayImageSource | EncodedTrainingImages:
    """Return the whole images of a stream's samples, in their order."""
    if isinstance(stream, PackStream):
        return composite_on_white(stream.premultiplied_rgba.cpu())
    assert isinstance(stream, SampleStream)
    return EncodedTrainingImages(stream.loader)


def load_or_compute_features(
    loaded: LoadedTower, stream: BatchStream[Any], results: Path, circumstances: RunCircumstances
) -> StoredFeatures:
    """Return a locked tower's features of all samples of a stream.

    Images are prepared as for scoring: scaled, and cropped at the centre. The features are computed once, in the
    precision of training, and stored in `results`, in a file that `digest_tower_and_data` names. It is mapped, not read
    into memory.
    """
    digest = digest_tower_and_data(loaded, stream.experiment, circumstances)
    path = results / f"features-{digest}.npy"
    cost_path = path.with_suffix(".json")  # written last
    if not cost_path.is_file():
        dtype = AUTOCAST_DTYPES.get(circumstances.precision)
        embed = make_tower_embedder(loaded.tower, stream.device)
        images = open_training_images(stream)
        with (
            time_synchronized_block(stream.device) as elapsed,
            torch.autocast(stream.device.type, dtype, enabled=dtype is not None),
        ):
            features = embed(images)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, features)
        encoded = images if isinstance(images, EncodedTrainingImages) else None
        cost = FeatureCost(
            seconds=elapsed.seconds * count_devices(circumstances),
            replacements=encoded.replacements if encoded else {},
            unusable=dict(encoded.stats.unusable) if encoded else {},
        )
        with atomic_write(cost_path) as temporary:
            temporary.write_bytes(msgspec.json.encode(cost))
    cost = decode_json(cost_path.read_bytes(), FeatureCost)
    return StoredFeatures(np.load(path, mmap_mode="r"), cost, digest)


def digest_tower_and_data(
    loaded: LoadedTower, experiment: Experiment, circumstances: RunCircumstances
) -> str:
    """Return a digest of what a tower's features of an experiment's samples, and their cost, depend on."""
    parts = (
        hashlib.sha256(loaded.file.read_bytes()).hexdigest() if loaded.file else loaded.name,
        training_files_digest(experiment.input, experiment.targets),
        experiment.input,
        experiment.seed,  # draws a random subset, and replacements of images that cannot be decoded
        circumstances.precision,
        circumstances.machine_and_gpu,
    )
    return digest_json(parts)


def digest_json(value: object) -> str:
    """Return 16 hex digits of a value's digest."""
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()[:16]
