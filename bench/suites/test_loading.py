"""Batches of tar shards on one core, from JPEGs of 256 to 512 pixels a side: read, decoded, cropped to 224.

As a worker leaves them: bytes, which the device normalises.
"""

import io
import tarfile
import time
from itertools import count
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data.order import SampleOrder
from bench.data.shards.shards import Shards, open_shards
from bench.data.shards.stream import LoadedBatch, ShardLoader
from bench.experiments import EXPERIMENTS
from bench.methods import METHODS

IMAGES, BATCH = 200, 50
SMALLEST, LARGEST, QUALITY = 256, 512, 87
NOISE = 8.0  # standard deviation, of 255: with it a file has 35 KiB, the mean
CATLIP = replace(
    EXPERIMENTS["catlip-vit-b16"],
    batch_size=BATCH,
    image_size=224,
    crop_scale=(0.9, 1.0),
    synset_vocabulary="pack-synsets",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(IMAGES):
            for suffix, content in (("jpg", _jpeg(number)), ("txt", b"a dog and a cat on a red chair")):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return open_shards(str(folder), folder / "cache")


def _jpeg(seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    width, height = draw.integers(SMALLEST, LARGEST + 1, 2)
    y, x = np.mgrid[0:height, 0:width]
    ramps = np.stack([x / width, y / height, (x + y) / (width + height)], -1) * 255
    pixels = (ramps + draw.normal(0, NOISE, ramps.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=QUALITY)
    return file.getvalue()


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("method", ["clip", "catlip"])
def test_batch_of_shards(benchmark: BenchmarkFixture, shards: Shards, method: str) -> None:
    """Timed in CPU seconds, so that other processes do not count."""
    experiment = replace(CATLIP, method=method)
    loader: ShardLoader[Any] = ShardLoader(
        experiment, METHODS[experiment.method].targets, shards, range(IMAGES), SampleOrder(experiment, IMAGES)
    )
    numbers = count()

    def load() -> LoadedBatch[Any]:
        loaded = loader[next(numbers)]
        assert isinstance(loaded, LoadedBatch)
        return loaded

    load()
    benchmark(load)
    benchmark.extra_info["images"] = BATCH
    if benchmark.stats:
        benchmark.extra_info["images per CPU second"] = BATCH / benchmark.stats.stats.median
