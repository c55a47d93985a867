"""Small trainings that are built and not run."""

from pathlib import Path

import torch

from bench.train.build import TrainRun, build_train_run, open_batch_stream
from tests.small import TWO_BLOCKS, few_images


def assembled(results: Path, method: str = "catlip", **changes: object) -> TrainRun:
    """Build a training on 96 images of the pack, on the CPU, with towers of two blocks."""
    experiment = few_images(method, **TWO_BLOCKS | changes)
    return build_train_run(open_batch_stream(experiment, torch.device("cpu"), results))
