"""Batches of tar shards on one core, from JPEGs of 256 to 512, of 512 or of 1,024 pixels a side, cropped to 224.

They are read and decoded as a worker leaves them: bytes, which the device normalises.
"""

import io
import tarfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from bench.config import Experiment
from bench.data.order import SampleOrder
from bench.data.shards.shards import Shards, open_shards
from bench.data.shards.stream import LoadedBatch, ShardLoader
from bench.experiments import EXPERIMENTS
from bench.method import methods

IMAGES, BATCH, LARGE_IMAGES, LARGE_BATCH = 100, 50, 20, 10
SMALLEST, LARGEST, LARGE, QUALITY = 256, 512, 1024, 87
NOISE = 8.0  # standard deviation, of 255: with it a file has 35 KiB, the mean
CATLIP = replace(
    EXPERIMENTS["catlip-vit-b16"],
    batch_size=BATCH,
    image_size=224,
    crop_scale=(0.9, 1.0),
    synset_vocabulary="pack-synsets",
    text_padding="bucketed",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return _write_shards(tmp_path_factory.mktemp("shards"), IMAGES, SMALLEST, LARGEST)


@pytest.fixture(scope="module")
def large_shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return _write_shards(tmp_path_factory.mktemp("large-shards"), LARGE_IMAGES, LARGE, LARGE)


@pytest.fixture(scope="module")
def medium_shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return _write_shards(tmp_path_factory.mktemp("medium-shards"), LARGE_IMAGES, LARGEST, LARGEST)


def _write_shards(folder: Path, images: int, smallest: int, largest: int) -> Shards:
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number in range(images):
            jpeg = _jpeg(number, smallest, largest)
            for suffix, content in (("jpg", jpeg), ("txt", b"a dog and a cat on a red chair")):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return open_shards(str(folder), folder / "cache")


def _jpeg(seed: int, smallest: int, largest: int) -> bytes:
    draw = np.random.default_rng(seed)
    width, height = draw.integers(smallest, largest + 1, 2)
    y, x = np.ogrid[0:height, 0:width]
    pixels = draw.standard_normal((height, width, 3), dtype=np.float32) * NOISE
    for channel, ramp in enumerate((x / width, y / height, (x + y) / (width + height))):
        pixels[..., channel] += ramp * 255
    pixels = pixels.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=QUALITY)
    return file.getvalue()


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("method", ["clip", "catlip"])
def test_batch_of_shards(benchmark: BenchmarkFixture, shards: Shards, method: str) -> None:
    _time_batches(benchmark, replace(CATLIP, method=method), shards, IMAGES)


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("decoding", ["full", "reduced"])
def test_batch_of_large_jpegs(benchmark: BenchmarkFixture, large_shards: Shards, decoding: Any) -> None:
    _time_decoding(benchmark, large_shards, decoding)


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("decoding", ["full", "reduced"])
def test_batch_of_medium_jpegs(benchmark: BenchmarkFixture, medium_shards: Shards, decoding: Any) -> None:
    _time_decoding(benchmark, medium_shards, decoding)


def _time_decoding(benchmark: BenchmarkFixture, shards: Shards, decoding: Any) -> None:
    of_shards = replace(CATLIP, data=shards.data, caption_lengths="pack", batch_size=LARGE_BATCH)
    _time_batches(benchmark, replace(of_shards, jpeg_decoding=decoding), shards, LARGE_IMAGES)


def _time_batches(benchmark: BenchmarkFixture, experiment: Experiment, shards: Shards, images: int) -> None:
    """Time batches in CPU seconds, so that other processes do not count."""
    loader: ShardLoader[Any] = ShardLoader(
        experiment, methods()[experiment.method].targets, shards, range(images), SampleOrder(experiment, images)
    )
    numbers = count()

    def load() -> LoadedBatch[Any]:
        loaded = loader[next(numbers)]
        assert isinstance(loaded, LoadedBatch)
        return loaded

    load()
    benchmark(load)
    benchmark.extra_info["images"] = experiment.batch_size
    if benchmark.stats:
        benchmark.extra_info["images per CPU second"] = experiment.batch_size / benchmark.stats.stats.median
