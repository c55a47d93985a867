"""The teacher of a distillation experiment, and its features of whole images, computed once and stored in a file."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from bench.console.console import PROGRAM
from bench.console.progress import show_progress
from bench.data.decoding import UnusableImageError, decode_image
from bench.data.manifest import CACHE
from bench.data.samples import data_digest, open_samples
from bench.data.stream import eval_transform
from bench.data.transforms import WHITE, normalise, resize_and_crop_centre
from bench.environment.files import decode_json, prefix_errors
from bench.environment.seeds import TEACHER, derive_seed
from bench.experiment.config import Experiment
from bench.interfaces.data_source import Samples
from bench.towers.head_file import save_tower
from bench.towers.provenance import read_metadata
from bench.towers.tower_from import load_trained_tower
from models.checkpoint import require_finite
from models.image_tower import ImageTower, build_image_tower

SUFFIX = ".safetensors"
EMBED_BATCH_SIZE = 64


class FeatureFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The teacher and the data of stored features; metadata of their file."""

    teacher: str
    data: str
    digest: str  # of the data's files


def build_teacher(experiment: Experiment) -> ImageTower:
    """Build an experiment's teacher: a trained tower from a file, or an untrained tower by its name.

    ValueError for a missing file, a file without a tower, or a name that no library has.
    """
    teacher = experiment.targets.teacher
    if not teacher.endswith(SUFFIX):
        return build_image_tower(
            teacher, experiment.image.image_size, derive_seed(experiment.seed, TEACHER)
        )
    if not Path(teacher).is_file():
        raise ValueError(
            f"no tower file {teacher!r} for a teacher; `{PROGRAM} train` writes tower files"
        )
    return load_trained_tower(Path(teacher))[0]


def write_teacher_features(
    experiment: Experiment, device: torch.device, results: Path, path: Path
) -> None:
    """Embed every sample of an experiment's data with its teacher: images as towers are scored on, at its size.

    The file has one row per sample; rows of unusable samples are 0 and are never read.
    """
    teacher = build_teacher(experiment).to(device).eval()
    samples = open_samples(experiment, results / CACHE)
    features = torch.zeros(samples.num_stored_label_rows, teacher.width)
    with torch.inference_mode():
        for rows, images in _iter_image_batches(samples, teacher.image_size):
            features[torch.tensor(rows)] = teacher(images.to(device)).float().cpu()
    require_finite(features, f"features of the teacher {experiment.targets.teacher}")
    digest = data_digest(experiment.input.data)
    facts = FeatureFacts(
        teacher=experiment.targets.teacher, data=experiment.input.data, digest=digest
    )
    save_tower({"features": features}, path, {"features": msgspec.json.encode(facts).decode()})


@cache
def stored_features(experiment: Experiment) -> Float[Tensor, "samples dim"] | None:
    """Return the stored features if the experiment's teacher is such a file, or None.

    ValueError for features of other data, or that are not finite.
    """
    path = Path(experiment.targets.teacher)
    if path.suffix != SUFFIX or not path.is_file():
        return None
    metadata = read_metadata(path).get("features")
    if metadata is None:
        return None
    with prefix_errors(path):
        facts = decode_json(metadata, FeatureFacts)
    if facts.digest != data_digest(experiment.input.data):
        raise ValueError(
            f"{path} holds features of data={facts.data}, which is not this data={experiment.input.data}"
        )
    features = load_file(path).get("features", torch.empty(0))
    if features.ndim != 2:  # noqa: PLR2004 - a matrix
        raise ValueError(f"{path} holds no matrix of features")
    require_finite(features, f"features in {path}")
    return features


def _iter_image_batches(samples: Samples, side: int) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the rows of samples, and their images; samples whose image cannot be decoded are left out."""
    if samples.is_decoded:
        pixels = samples.pixels
        for first in _iter_batch_starts(len(pixels)):
            batch = pixels[first : first + EMBED_BATCH_SIZE]
            yield list(range(first, first + len(batch))), eval_transform(batch, side)
        return
    for first in _iter_batch_starts(len(samples)):
        rows = list[int]()
        images = list[Tensor]()
        for row in range(first, min(first + EMBED_BATCH_SIZE, len(samples))):
            try:
                image = decode_image(samples.image(row))
            except UnusableImageError:
                continue
            rows.append(samples.stored_label_row(row))
            images.append(resize_and_crop_centre(image, side))
        if images:
            yield rows, normalise(torch.stack(images) / WHITE)


def _iter_batch_starts(count: int) -> Iterator[int]:
    """Yield the first index of each batch, and show the progress."""
    firsts = range(0, count, EMBED_BATCH_SIZE)
    return show_progress(firsts, len(firsts), "embedding with the teacher", "batches")
