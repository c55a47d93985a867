"""The speed at which one core loads shards: reading, decoding, augmentation and targets."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.data.sample_stream import SampleStream
from bench.experiment.config import Experiment, change
from bench.experiment.settings import renamed_with_settings
from bench.statistics.intervals import ValueWithInterval, geometric_mean_with_interval
from bench.train.build import open_batch_stream

TIMED_BATCH = 32  # images of a timed batch
MIN_BATCHES = 3


@dataclass(frozen=True, slots=True)
class LoadingSpeedOfOneCore:
    """How fast one core loads batches."""

    images_per_cpu_second: ValueWithInterval  # per CPU second, over batches of different images
    num_images: int  # in the timed batches
    # CPU seconds over seconds: the rest is waiting, for the disk or for other processes.
    cpu_share: float


def measure_loading_on_one_core(
    experiment: Experiment, results: Path, seconds: float
) -> LoadingSpeedOfOneCore:
    """Load an experiment's shards for so many seconds, as a loader worker does: in one thread of this process.

    CPU seconds are counted, so that other processes change the result little. The indexes of the shards lie in
    `results`. Raises ValueError or OSError for shards that cannot be read.
    """
    one_thread = change(experiment, workers=0, accumulation=1)
    small_batches = renamed_with_settings(one_thread, [f"batch_size={TIMED_BATCH}"])
    stream = open_batch_stream(small_batches, torch.device("cpu"), results)
    assert isinstance(stream, SampleStream)
    threads = torch.get_num_threads()
    rates: list[float] = []
    num_images = 0
    batch_number = 0
    torch.set_num_threads(1)
    try:
        stream.load_batch_parts(batch_number)  # opens files and makes the tokenizer or labeller
        start = time.perf_counter()
        cpu_start = time.process_time()
        while len(rates) < MIN_BATCHES or time.perf_counter() - start < seconds:
            batch_number += 1
            before = time.process_time()
            count = len(stream.load_batch_parts(batch_number).images)
            rates.append(count / (time.process_time() - before))
            num_images += count
        cpu_share = (time.process_time() - cpu_start) / (time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    interval = geometric_mean_with_interval(rates)
    assert interval is not None
    return LoadingSpeedOfOneCore(interval, num_images, min(1.0, cpu_share))
