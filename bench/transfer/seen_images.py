"""Test images of a task that are in the training data, too, with the same bytes."""

import os
from functools import cache
from hashlib import blake2b
from pathlib import Path

from bench.data.samples import open_samples
from bench.data.sources.image_pairs import FileSamples
from bench.data.sources.tar_shards import TarSamples
from bench.experiment.config import Experiment
from bench.interfaces.data_source import Samples
from bench.transfer.tasks.image_sources import FileImageSource, ImageSource

MAX_READ = 200_000  # images of the training data


@cache
def count_seen_images(
    test_images: ImageSource, experiment: Experiment, cache_folder: Path
) -> int | None:
    """Return how many test images have the same bytes as an image of the experiment's data.

    Of the data only images that are as large as a test image are read. None: they are more than `MAX_READ`, one of the
    two is neither files nor members of tars, or the data cannot be read any more.
    """
    if not isinstance(test_images, FileImageSource):
        return None
    try:
        samples = open_samples(experiment, cache_folder)
        sizes = _list_sizes(samples)
        if not sizes:
            return None
        digests = []
        test_sizes = set()
        for row in range(len(test_images)):
            content = test_images.read(row)
            digests.append(_digest(content))
            test_sizes.add(len(content))
        rows = [row for row, size in enumerate(sizes) if size in test_sizes]
        if len(rows) > MAX_READ:
            return None
        seen = {_digest(samples.image(row)) for row in rows}
    except (ValueError, OSError):
        return None
    return sum(digest in seen for digest in digests)


def _list_sizes(samples: Samples) -> list[int]:
    """Return the number of bytes of each image; empty for images that are neither files nor members of tars."""
    sizes: list[int] = []
    if isinstance(samples, TarSamples):
        sizes = samples.table["size"].to_pylist()
    elif isinstance(samples, FileSamples):
        files = samples.table["image"].to_pylist()
        sizes = [Path(os.fsdecode(file)).stat().st_size for file in files]
    return sizes


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
