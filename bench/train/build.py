"""A run put together from its experiment: data, tower, model and step; and steps of it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.config import PACK_DATA, Experiment
from bench.data.manifest import CACHE
from bench.data.pack import load_pictures
from bench.data.pack_stream import PackStream
from bench.data.shards.shards import shards_for
from bench.data.shards.stream import ShardStream
from bench.data.stream import Stream
from bench.environment.machine import resolved
from bench.environment.seeds import HEAD, STEP, TOWER, seed_for
from bench.image_sizes import first_of_each_size
from bench.methods import Method, method_named
from bench.profilers.clock import clock
from bench.train.distributed import group_of_all
from bench.train.not_finite import NotFiniteError
from bench.train.step import Step, make_step
from losses.collectives import place
from models.checkpointing import checkpoint_activations
from models.image_tower import ImageTower, build_image_tower


@dataclass(frozen=True, slots=True)
class Assembled:
    """The parts of a run on its device."""

    tower: ImageTower
    model: nn.Module
    method: Method[Any]
    stream: Stream[Any]
    step: Step[Any]


def untrained_tower(experiment: Experiment) -> ImageTower:
    """Build the tower as every method's training begins with it: from its own generator."""
    seed = seed_for(experiment.seed, TOWER)
    drawn = experiment.image_sizes, experiment.patch_drop, experiment.embedding_channels
    return build_image_tower(experiment.tower, experiment.image_size, seed, *drawn)


def load_data(experiment: Experiment, device: torch.device, results: Path) -> Stream[Any]:
    """Open the data set, each rank its own share of the batches.

    The pack's captions are turned at once into what the method reads, those of shards batch by batch.
    """
    (rank, ranks), method = place(group_of_all()), method_named(experiment.method)
    if experiment.data != PACK_DATA:
        shards = shards_for(experiment, results / CACHE)
        return ShardStream(experiment, shards, method.targets, device, rank=rank, ranks=ranks)
    targets = method.targets(experiment)
    return PackStream(experiment, load_pictures("pretrain", results / CACHE), targets, device, rank=rank, ranks=ranks)


def assemble(stream: Stream[Any], *, plain: bool = False) -> Assembled:
    """Build tower, model and step around the data.

    Compiled where the experiment says so, and spread over the processes that there are; neither where it is `plain`.
    """
    experiment, device = stream.experiment, stream.device
    method, tower = method_named(experiment.method), untrained_tower(experiment)
    torch.manual_seed(seed_for(experiment.seed, HEAD))
    model = method.wrap(tower, experiment).to(device)
    if experiment.activation_checkpointing:
        checkpoint_activations(model)
    torch.manual_seed(seed_for(experiment.seed, STEP))
    precision, compiled = resolved(experiment, device)
    group = None if plain else group_of_all()
    step = make_step(experiment, model, method, precision, compiled=compiled and not plain, group=group)
    return Assembled(tower, model, method, stream, step)


def take_steps(run: Assembled, steps: Iterable[int]) -> list[Tensor]:
    """Take steps at the full learning rate, then sleep what is planted; their losses stay on the device."""
    experiment = run.stream.experiment
    with clock(run.stream.device) as own:
        losses = [run.step(run.stream.batch(k), experiment.learning_rate) for k in steps]
    time.sleep(experiment.planted_delay * own.seconds)
    return losses


def first_steps(experiment: Experiment, count: int) -> list[int]:
    """Return steps 0 to `count`, and before them one of each image size, the largest first.

    So nothing is built, compiled or allocated later, and a peak of memory is that of the size which needs most: large
    images have long sequences, small ones have large batches for text tower and head.
    """
    return list(dict.fromkeys([*first_of_each_size(experiment, 0), *range(count)]))


def check_finite(losses: list[Tensor], steps: Sequence[int], stream: Stream[Any]) -> None:
    """Stop a run that skipped an update in one of its steps; read once a window, outside the clock."""
    finite = torch.stack(losses).isfinite()
    if not finite.all():
        step = steps[int((~finite).nonzero()[0])]
        raise NotFiniteError(step, stream.keys(step))


def trained_parameters(model: nn.Module) -> int:
    """Count the parameters that steps change: a teacher's are not."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
