"""Batches of tar shards on one core, from JPEGs of 256 to 512, of 512 or of 1,024 pixels a side, cropped to 224.

They are read and decoded as a worker leaves them: bytes, which the device normalises.
"""

import time
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data.order import SampleOrder
from bench.data.sample_stream import LoadedBatch, SampleLoader
from bench.data.sources.tar_shards import TarSamples, open_shards
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.method import METHODS
from bench.measure.generated_shards import write_shard

IMAGES, BATCH, LARGE_IMAGES, LARGE_BATCH = 100, 50, 20, 10
SMALLEST, LARGEST, LARGE = 256, 512, 1024
CATLIP = change(
    EXPERIMENTS["catlip-vit-b16"],
    batch_size=BATCH,
    image_size=224,
    crop_scale=(0.9, 1.0),
    synset_vocabulary="pack-synsets",
    text_padding="bucketed",
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TarSamples:
    return _write_shards(tmp_path_factory.mktemp("shards"), IMAGES, SMALLEST, LARGEST)


@pytest.fixture(scope="module")
def large_shards(tmp_path_factory: pytest.TempPathFactory) -> TarSamples:
    return _write_shards(tmp_path_factory.mktemp("large-shards"), LARGE_IMAGES, LARGE, LARGE)


@pytest.fixture(scope="module")
def medium_shards(tmp_path_factory: pytest.TempPathFactory) -> TarSamples:
    return _write_shards(tmp_path_factory.mktemp("medium-shards"), LARGE_IMAGES, LARGEST, LARGEST)


def _write_shards(folder: Path, images: int, smallest: int, largest: int) -> TarSamples:
    write_shard(folder / "0.tar", range(images), repeat("a dog and a cat on a red chair"), smallest, largest)
    return open_shards(str(folder), folder / "cache")


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("method", ["clip", "catlip"])
def test_batch_of_shards(benchmark: BenchmarkFixture, shards: TarSamples, method: str) -> None:
    _time_batches(benchmark, change(CATLIP, method=method), shards, IMAGES)


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("decoding", ["full", "reduced"])
def test_batch_of_large_jpegs(benchmark: BenchmarkFixture, large_shards: TarSamples, decoding: Any) -> None:
    _time_decoding(benchmark, large_shards, decoding)


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("decoding", ["full", "reduced"])
def test_batch_of_medium_jpegs(benchmark: BenchmarkFixture, medium_shards: TarSamples, decoding: Any) -> None:
    _time_decoding(benchmark, medium_shards, decoding)


def _time_decoding(benchmark: BenchmarkFixture, shards: TarSamples, decoding: Any) -> None:
    of_shards = change(CATLIP, data=str(shards.paths[0]), caption_lengths="pack", batch_size=LARGE_BATCH)
    _time_batches(benchmark, change(of_shards, jpeg_decoding=decoding), shards, LARGE_IMAGES)


def _time_batches(benchmark: BenchmarkFixture, experiment: Experiment, shards: TarSamples, images: int) -> None:
    """Time batches in CPU seconds, so that other processes do not count."""
    loader: SampleLoader[Any] = SampleLoader(
        experiment, METHODS[experiment.method].targets, shards, range(images), SampleOrder(experiment, images)
    )
    numbers = count()

    def load() -> LoadedBatch[Any]:
        loaded = loader[next(numbers)]
        assert isinstance(loaded, LoadedBatch)
        return loaded

    load()
    benchmark(load)
    benchmark.extra_info["images"] = experiment.training.batch_size
    if benchmark.stats:
        benchmark.extra_info["images per CPU second"] = experiment.training.batch_size / benchmark.stats.stats.median
