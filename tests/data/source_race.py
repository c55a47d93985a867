"""How fast one core loads the same JPEGs from every data source, as a ratio to tar shards.

`python -m tests.data.source_race [ROUNDS]` alternates batches of all sources and counts CPU seconds, so that other
processes change the ratios little. The files are in the page cache; a first round, in which pages are mapped, is timed
apart.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.captions.choice import FOUND_BY_NAME
from bench.data.order import SampleOrder
from bench.data.sample_stream import LoadedBatch, SampleLoader
from bench.data.samples import get_source
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.data_source import SampleRequest
from bench.interfaces.method import METHODS
from bench.measure.generated_shards import make_jpeg
from bench.statistics.intervals import geometric_mean_interval
from tests.data.layouts import LAYOUTS, Sample

# Different images, how often each is written, and images of a batch.
IMAGES, COPIES, BATCH = (
    200,
    5,
    20,
)
SMALLEST, LARGEST = 512, 1024  # pixels a side: JPEGs of 54 to 211 KiB
BASELINE = "tars"
RACED = (BASELINE, "Parquet", "saved dataset", "metadata.csv", "pairs")


def main(rounds: int = 8) -> None:
    experiment = change(
        EXPERIMENTS["catlip-vit-b16"],
        batch_size=BATCH,
        image_size=224,
        crop_scale=(0.9, 1.0),
        synset_vocabulary="pack-synsets",
    )
    torch.set_num_threads(1)
    samples = [
        Sample(make_jpeg(n, SMALLEST, LARGEST), f"a dog and {n} cats on a red chair")
        for n in range(IMAGES)
    ] * COPIES
    with tempfile.TemporaryDirectory() as folder:
        loaders = {}
        for name in RACED:
            data = LAYOUTS[name](Path(folder) / str(len(loaders)), samples)
            loaders[name] = open_loader(experiment, data, Path(folder) / "cache")
        first = {name: time_batches(loader, 0) for name, loader in loaders.items()}
        later = [
            {name: time_batches(loader, number + 1) for name, loader in loaders.items()}
            for number in range(rounds)
        ]
    size, rate = np.mean([len(one.image) for one in samples]) / 1024, IMAGES / later[0][BASELINE]
    print(f"{size:.0f} KiB a JPEG, {rate:.0f} images/s from tars")
    for name in loaders:
        ratio = geometric_mean_interval([one[name] / one[BASELINE] for one in later])
        assert ratio is not None
        begin = first[name] / first[BASELINE]
        print(
            f"{name:40} {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}), first {begin:.2f}"
        )


def open_loader(experiment: Experiment, data: Path, cache: Path) -> SampleLoader[Any]:
    samples = get_source(str(data)).open(
        str(data), SampleRequest(cache=cache, captions=FOUND_BY_NAME)
    )
    targets = METHODS[experiment.method].targets
    return SampleLoader(
        experiment, targets, samples, range(len(samples)), SampleOrder(experiment, len(samples))
    )


def time_batches(loader: SampleLoader[Any], number: int) -> float:
    """Return the CPU seconds of a share of an epoch, in the order that the seed draws."""
    steps = IMAGES // BATCH
    loader[number * steps]
    start = time.process_time()
    for k in range(number * steps, (number + 1) * steps):
        assert isinstance(loader[k], LoadedBatch)
    return time.process_time() - start


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
