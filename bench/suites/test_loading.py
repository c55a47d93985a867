"""Batches of tar shards on one core, from JPEGs of 256 to 512, of 512 or of 1,024 pixels a side, cropped to 224.

They are read and decoded as a worker leaves them: bytes, which the device normalises. Seconds are of the CPU, so that
other processes do not count.
"""

import time
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data.captions.choice import CaptionChoice
from bench.data.order import SampleOrder
from bench.data.sample_stream import SampleLoader
from bench.data.sources.tar_shards import TarShards
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.data_source import SampleRequest
from bench.interfaces.method import METHODS
from bench.measure.generated_shards import write_shard

CATLIP = change(
    EXPERIMENTS["catlip-vit-b16"],
    batch_size=50,
    image_size=224,
    crop_scale=(0.9, 1.0),
    synset_vocabulary="pack-synsets",
    text_padding="bucketed",
)

pytestmark = pytest.mark.benchmark(group="loading", timer=time.process_time)


@pytest.mark.parametrize("method", ["clip", "catlip"])
def test_batch_of_shards(benchmark: BenchmarkFixture, tmp_path: Path, method: str) -> None:
    time_batches(benchmark, change(CATLIP, method=method), tmp_path, 100, 256, 512)


@pytest.mark.parametrize("decoding", ["full", "reduced"])
@pytest.mark.parametrize("side", [512, 1024])
def test_batch_of_large_jpegs(
    benchmark: BenchmarkFixture, tmp_path: Path, side: int, decoding: Any
) -> None:
    data = str(tmp_path / "0.tar")
    experiment = change(
        CATLIP, data=data, caption_lengths="pack", batch_size=10, jpeg_decoding=decoding
    )
    time_batches(benchmark, experiment, tmp_path, 20, side, side)


def time_batches(
    benchmark: BenchmarkFixture,
    experiment: Experiment,
    folder: Path,
    images: int,
    smallest: int,
    largest: int,
) -> None:
    """Time batches of images whose sides are between two numbers of pixels."""
    write_shard(
        folder / "0.tar", range(images), repeat("a dog and a cat on a red chair"), smallest, largest
    )
    request = SampleRequest(cache=folder / "cache", captions=CaptionChoice())
    shards = TarShards().open(str(folder), request)
    loader: SampleLoader[Any] = SampleLoader(
        experiment,
        METHODS[experiment.method].targets,
        shards,
        range(images),
        SampleOrder(experiment, images),
    )
    numbers = count()
    benchmark(lambda: loader[next(numbers)])
    benchmark.extra_info["images"] = experiment.training.batch_size
    if benchmark.stats:
        benchmark.extra_info["images per CPU second"] = (
            experiment.training.batch_size / benchmark.stats.stats.median
        )
