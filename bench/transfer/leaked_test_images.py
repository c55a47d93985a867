"""Test images of a task that are in the training data, too, with the same bytes."""

from functools import cache
from hashlib import blake2b
from pathlib import Path

from msgspec import UNSET, UnsetType

from bench.data.samples import open_samples
from bench.experiment.config import Experiment
from bench.transfer.tasks.image_sources import EncodedImageSource, ImageSource

MAX_COMPARED = 200_000  # samples of the training data, all of which are read once


def count_leaked_test_images(
    test_images: ImageSource | None, experiment: Experiment, cache_folder: Path
) -> int | UnsetType:
    """Return how many test images have the bytes of an image of the experiment's data; UNSET: they are not compared.

    Compared are files and members of tars with at most `MAX_COMPARED` samples that can still be read.
    """
    if not isinstance(test_images, EncodedImageSource):
        return UNSET
    try:
        training_digests = _hash_training_images(experiment, cache_folder)
        if training_digests is None:
            return UNSET
        test_digests = [_hash_bytes(test_images.read(row)) for row in range(len(test_images))]
    except (ValueError, OSError):
        return UNSET
    return sum(digest in training_digests for digest in test_digests)


@cache
def _hash_training_images(experiment: Experiment, cache_folder: Path) -> frozenset[bytes] | None:
    """Return the digests of an experiment's images, read once for all tasks; None if they are not compared."""
    samples = open_samples(experiment, cache_folder)
    if samples.is_decoded or len(samples) > MAX_COMPARED:
        return None
    return frozenset(_hash_bytes(samples.image(row)) for row in range(len(samples)))


def _hash_bytes(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
