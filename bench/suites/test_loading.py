"""Batches of tar shards on one core, cropped to 224 pixels a side.

They are read and decoded as a worker leaves them: bytes, which the device normalises. Seconds are of the CPU, so that
other processes do not count.
"""

import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data.captions.choice import CaptionChoice
from bench.data.image_sizes import make_batch_shape_schedule
from bench.data.order import SampleOrder
from bench.data.sample_stream import SampleLoader
from bench.data.sources.tar_shards import TarShards
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.data_source import SampleFieldsRequest
from bench.interfaces.method import METHODS
from bench.measure.generated_shards import write_shard

IMAGES = 20


@pytest.mark.benchmark(group="loading", timer=time.process_time)
@pytest.mark.parametrize("decoding", ["full", "reduced"])
@pytest.mark.parametrize("side", [512, 1024])
def test_batch_of_shards(
    benchmark: BenchmarkFixture, tmp_path: Path, decoding: str, side: int
) -> None:
    """Load batches of 10 JPEGs with `side` pixels a side."""
    experiment = change(
        EXPERIMENTS["catlip-vit-b16"],
        batch_size=10,
        image_size=224,
        crop_scale=(0.9, 1.0),
        synset_vocabulary="shipped-synsets",
        text_padding="length_groups",
        data=str(tmp_path / "0.tar"),
        pack_caption_lengths="own",
        jpeg_decoding=decoding,
    )
    captions = ["a dog and a cat on a red chair"] * IMAGES
    write_shard(tmp_path / "0.tar", range(IMAGES), captions, side)
    request = SampleFieldsRequest(cache=tmp_path / "cache", captions=CaptionChoice())
    shards = TarShards().open(str(tmp_path), request)
    loader: SampleLoader[Any] = SampleLoader(
        experiment,
        METHODS[experiment.method].make_target_function,
        shards,
        range(IMAGES),
        SampleOrder(experiment.seed, IMAGES, make_batch_shape_schedule(experiment)),
    )
    numbers = count()
    benchmark(lambda: loader[next(numbers)])
