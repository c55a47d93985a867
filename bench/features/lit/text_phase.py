"""The second phase: a text tower and a projection learn on the stored features of a locked image tower.

Source: Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text Tuning", arXiv 2111.07991.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.console.progress import iterate_with_progress_bar
from bench.data.stream import Batch, BatchStream
from bench.data.targets import to_device_async
from bench.train.build import TrainRun, build_train_run, require_finite_losses
from bench.train.loop import plan_segments, scheduled_learning_rate
from models.image_tower import ImageTower


def build_run_on_features(stream: BatchStream[Any], width: int) -> TrainRun:
    """Return a training of a contrastive method whose images are features: grids of one embedding of `width` channels.

    The tower has no weights and returns the embedding, so that the loss is the method's with a locked tower.
    """
    return build_train_run(stream, ImageTower(nn.Flatten(), image_size=1, channels=width))


def train_on_features(run: TrainRun, features: Float[np.ndarray, "samples width"]) -> list[float]:
    """Take all steps of an experiment with its schedule on stored features of its samples, and return the losses."""
    stream = run.stream
    training = stream.experiment.training
    num_steps = round(training.images / training.batch_size)
    losses: list[Tensor] = []
    for segment in plan_segments(training, {training.images: num_steps}):
        steps = segment.batch_numbers
        for k in iterate_with_progress_bar(steps, len(steps), "text tower", "steps"):
            values = torch.from_numpy(features[stream.order.batch_rows(k).numpy()])
            grids = to_device_async(values, stream.device)[:, :, None, None]
            batch = Batch(grids, stream.target(k).to(stream.device))
            losses.append(run.step(batch, scheduled_learning_rate(stream.experiment, segment, k)))
    require_finite_losses(losses, range(len(losses)), stream)
    return [loss.item() for loss in losses]
