"""A teacher's features of whole images, computed once and stored in a file."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from bench.config import PACK_DATA, Experiment
from bench.data.decoding import UnusableImageError, decode_image
from bench.data.manifest import CACHE
from bench.data.pack import load_pack_images
from bench.data.shards.shards import files_digest, find_shards, open_samples, open_shards
from bench.data.stream import eval_transform
from bench.data.transforms import WHITE, normalise
from bench.environment.files import atomic_write, decode_json
from bench.towers.made import metadata_of
from bench.towers.trained import SUFFIX, build_teacher

EMBED_BATCH_SIZE = 64


class FeatureFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The teacher and the data of stored features; metadata of their file."""

    teacher: str
    data: str
    digest: str  # of the data's files


def write_features(experiment: Experiment, device: torch.device, results: Path, path: Path) -> None:
    """Embed every sample of an experiment's data with its teacher: whole images, scaled to the teacher's size.

    The file has one row per sample; rows of unusable samples are 0 and are never read.
    """
    teacher = build_teacher(experiment).to(device).eval()
    rows, found = list[int](), list[Tensor]()
    with torch.inference_mode():
        for places, images in _whole_images(experiment, teacher.image_size, results):
            rows += places
            found.append(teacher(images.to(device)).float().cpu())
    total = (
        open_samples(open_shards(experiment.data, results / CACHE)).total if experiment.data != PACK_DATA else len(rows)
    )
    features = torch.zeros(total, teacher.width)
    features[torch.tensor(rows)] = torch.cat(found)
    facts = FeatureFacts(
        teacher=experiment.teacher, data=experiment.data, digest=files_digest(find_shards(experiment.data))
    )
    with atomic_write(path) as temporary:
        save_file({"features": features}, temporary, metadata={"features": msgspec.json.encode(facts).decode()})


@cache
def stored_features(experiment: Experiment) -> Float[Tensor, "samples dim"] | None:
    """Return the stored features if the experiment's teacher is such a file, or None.

    ValueError for features of other data.
    """
    path = Path(experiment.teacher)
    if not (experiment.teacher.endswith(SUFFIX) and path.is_file()):
        return None
    metadata = metadata_of(path).get("features")
    if metadata is None:
        return None
    facts = decode_json(metadata, FeatureFacts)
    if facts.digest != files_digest(find_shards(experiment.data)):
        raise ValueError(f"{path} holds features of data={facts.data}, which is not this data={experiment.data}")
    features: Tensor = load_file(path)["features"]
    return features


def _whole_images(experiment: Experiment, side: int, results: Path) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the indices of samples in the data, with their images."""
    if experiment.data == PACK_DATA:
        pixels = load_pack_images("pretrain", results / CACHE).pixels
        for first in tqdm(range(0, len(pixels), EMBED_BATCH_SIZE), unit="batch", leave=False):
            some = pixels[first : first + EMBED_BATCH_SIZE]
            yield list(range(first, first + len(some))), eval_transform(some, side)
        return
    samples = open_samples(open_shards(experiment.data, results / CACHE))
    for first in tqdm(range(0, len(samples), EMBED_BATCH_SIZE), unit="batch", leave=False):
        places, images = list[int](), list[Tensor]()
        for row in range(first, min(first + EMBED_BATCH_SIZE, len(samples))):
            try:
                image = decode_image(samples.image(row))
            except UnusableImageError:
                continue
            places.append(samples.position(row))
            images.append(F.interpolate(image[None].float(), (side, side), mode="bilinear", antialias=True))
        if images:
            yield places, normalise(torch.cat(images) / WHITE)
