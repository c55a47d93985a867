"""The features of a locked image tower for all images of a data set, computed once and stored in a file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bench.console.console import UserError, log
from bench.data.decoding import UnusableImageError, decode_image
from bench.data.manifest import CACHE
from bench.data.samples import open_samples, training_files_digest
from bench.data.subset import subset_rows
from bench.environment.circumstances import RunCircumstances
from bench.environment.files import atomic_write
from bench.experiment.config import Experiment
from bench.features.lit.costs import count_devices
from bench.interfaces.data_source import Samples
from bench.profilers.clock import time_synchronized_block
from bench.towers.tower_from import LoadedTower
from bench.train.distributed import AUTOCAST_DTYPES
from bench.transfer.feature_extractor import make_tower_embedder
from bench.transfer.tasks.image_sources import composite_on_white


class StoredFeatures(NamedTuple):
    """Features in the order of an experiment's samples, and the device seconds that they took."""

    values: Float[np.ndarray, "samples width"]
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainingImages:
    """The whole images of training samples, without augmentation; transparent pixels are white."""

    samples: Samples
    rows: Sequence[int]  # the samples that the experiment uses
    resize_over_crop = 1.0

    def __len__(self) -> int:
        return len(self.rows)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        """Return an image; UserError with the key of a sample that cannot be decoded."""
        sample = self.rows[row]
        if self.samples.is_decoded:
            return composite_on_white(self.samples.pixels[sample : sample + 1]).rgb(0)
        try:
            return decode_image(self.samples.image(sample))
        except UnusableImageError as error:
            flaw = f"the image of {self.samples.key(sample)} cannot be decoded ({error})"
            raise UserError(f"{flaw}: leave it out by --set subset=FILE.csv") from None


def load_or_compute_features(
    loaded: LoadedTower,
    experiment: Experiment,
    device: torch.device,
    results: Path,
    circumstances: RunCircumstances,
) -> StoredFeatures:
    """Return a locked tower's features of an experiment's samples.

    Images are prepared as for scoring: scaled, and cropped at the centre. The features are computed once, in the
    precision of training, and stored in `results`, in a file that a digest of tower, data, precision and machine names.
    It is mapped, not read into memory.
    """
    path = results / f"features-{digest_tower_and_data(loaded, experiment, circumstances)}.npy"
    seconds_path = path.with_suffix(".seconds")  # written last
    if seconds_path.is_file():
        log(f"features of {loaded.name}: read from {path}")
    else:
        samples = open_samples(experiment, results / CACHE)
        images = TrainingImages(
            samples, subset_rows(experiment.input.subset, experiment.seed, samples.keys)
        )
        if samples.is_decoded:
            len(samples.pixels)  # reads them, before threads ask for them
        dtype = AUTOCAST_DTYPES.get(circumstances.precision)
        embed = make_tower_embedder(loaded.tower, device)
        with (
            atomic_write(path) as temporary,
            time_synchronized_block(device) as elapsed,
            torch.autocast(device.type, dtype, enabled=dtype is not None),
            temporary.open("wb") as file,
        ):
            np.save(file, embed(images))
        with atomic_write(seconds_path) as temporary:
            temporary.write_text(str(elapsed.seconds * count_devices(circumstances)))
    return StoredFeatures(np.load(path, mmap_mode="r"), float(seconds_path.read_text()))


def digest_tower_and_data(
    loaded: LoadedTower, experiment: Experiment, circumstances: RunCircumstances
) -> str:
    """Return a digest of what a tower's features of an experiment's samples, and their cost, depend on."""
    assert loaded.file is not None
    parts = (
        hashlib.sha256(loaded.file.read_bytes()).hexdigest(),
        training_files_digest(experiment.input, experiment.targets),
        experiment.input,
        experiment.seed,  # draws a random subset
        circumstances.precision,
        circumstances.machine_and_gpu,
    )
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]
