"""The parts of an experiment's training: data, tower, model and step."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from msgspec import UNSET
from torch import Tensor, nn

from bench.console.console import log
from bench.data.caption_lengths import rewrite_captions_to_web_lengths
from bench.data.image_sizes import BatchShapeSchedule
from bench.data.manifest import CACHE
from bench.data.pack import PackImages
from bench.data.sample_stream import SampleStream
from bench.data.samples import open_samples
from bench.data.stream import BatchStream, PackStream
from bench.environment.cores import choose_num_loader_workers, count_available_cores
from bench.environment.seeds import CAPTIONS, HEAD, STEP, TOWER, derive_seed
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.experiment.auto_fields import resolve_precision_and_compile, with_resolved_text_padding
from bench.experiment.config import Experiment
from bench.experiment.fields import OWN_LENGTHS, SampleSettings
from bench.interfaces.method import Method, get_method
from bench.labels.adjectives import frequent_adjective_labels_of_experiment
from bench.labels.subwords import encode_caption_without_start_and_end
from bench.profilers.clock import time_synchronized_block
from bench.train.augmentation import get_method_with_augmentation
from bench.train.distributed import world_group_or_none, world_rank, world_size
from bench.train.not_finite import NotFiniteError
from bench.train.step import TrainStep, make_train_step
from models.image_tower import ImageTower, build_image_tower
from models.tower_blocks import enable_activation_checkpointing


@dataclass(frozen=True, slots=True)
class TrainRun:
    """The parts of a training, on its device."""

    tower: ImageTower
    model: nn.Module
    method: Method
    stream: BatchStream[Any]
    step: TrainStep[Any]


def build_untrained_tower(experiment: Experiment) -> ImageTower:
    """Build the experiment's tower with its initial weights, which are equal for all methods."""
    image = experiment.image
    return build_image_tower(
        image.tower,
        image.image_size,
        derive_seed(experiment.seed, TOWER),
        image_sizes=image.random_image_sizes,
        patch_drop=image.patch_drop,
        input_embedding_grid_channels=image.input_embedding_grid_channels,
        pooling=image.pooling,
        pixel_normalisation=image.pixel_normalisation,
        last_block_computes_patches=get_method(experiment.method).reads_patch_tokens,
    )


def open_batch_stream(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    batch_shapes: BatchShapeSchedule | None = None,
) -> BatchStream[Any]:
    """Return the stream of this rank's part of every batch of the data set, with targets for the experiment's method.

    Without `batch_shapes` the batches have the shapes that the experiment draws. Captions of decoded images are turned
    into targets here, at the experiment's lengths; the others batch by batch.
    """
    rank_arguments: dict[str, Any] = {
        "rank": world_rank(),
        "ranks": world_size(),
        "batch_shapes": batch_shapes,
    }
    method = get_method(experiment.method)
    samples = open_samples(experiment, results / CACHE)
    if not samples.is_decoded:
        return SampleStream(
            experiment,
            samples,
            method.make_target_function,
            device,
            num_workers=resolve_num_loader_workers(experiment.input, device),
            **rank_arguments,
        )
    targets = method.make_target_function(with_resolved_text_padding(experiment, device))
    captions = tuple(samples.caption(row) for row in range(len(samples)))
    if experiment.input.pack_caption_lengths != OWN_LENGTHS:
        seed = derive_seed(experiment.seed, CAPTIONS)
        captions = rewrite_captions_to_web_lengths(
            captions, lambda text: len(encode_caption_without_start_and_end(text)), seed
        )
    images = PackImages(samples.premultiplied_rgba, captions, (), tuple(samples.keys))
    return PackStream(experiment, images, targets, device, **rank_arguments)


def resolve_num_loader_workers(inputs: SampleSettings, device: torch.device) -> int:
    """Return how many loader workers this process starts: as many as set, or by its cores with "auto"."""
    if inputs.workers != "auto":
        return inputs.workers
    if device.type == "cpu":  # a training there uses all cores
        return 0
    return choose_num_loader_workers(
        count_available_cores(), read_torchrun_ranks().local_world_size
    )


def log_loader_workers(stream: BatchStream[Any]) -> None:
    """Log on rank 0 how many workers load files for each process."""
    if stream.order.rank == 0 and isinstance(stream, SampleStream):
        log(f"{stream.experiment.name}: {stream.num_workers} loader workers")


def make_sample_record_fields(stream: BatchStream[Any]) -> dict[str, Any]:
    """Return the fields of `RunOnSamples` for a record: unusable samples, loader workers and adjective labels."""
    return {
        "skipped": stream.skipped,
        "loader_workers": stream.num_workers,
        "adjective_labels": frequent_adjective_labels_of_experiment(stream.experiment) or UNSET,
    }


def build_train_run(
    stream: BatchStream[Any],
    tower: ImageTower | None = None,
    *,
    eager_without_group: bool = False,
) -> TrainRun:
    """Build the model and the step of a training on this stream, around a tower; None: the experiment's, untrained.

    The model is compiled and parallelized as the experiment and the process group require; with
    `eager_without_group` it is neither.
    """
    experiment = stream.experiment
    device = stream.device
    method = get_method_with_augmentation(experiment)
    tower = tower or build_untrained_tower(experiment)
    torch.manual_seed(derive_seed(experiment.seed, HEAD))
    model = method.build_model(tower, experiment).to(device)
    if experiment.runtime.activation_checkpointing:
        enable_activation_checkpointing(model)
    torch.manual_seed(derive_seed(experiment.seed, STEP))
    precision, compiled = resolve_precision_and_compile(experiment.runtime, device)
    group = None if eager_without_group else world_group_or_none()
    step: TrainStep[Any] = make_train_step(
        experiment,
        model,
        method,
        precision,
        compiled=compiled and not eager_without_group,
        group=group,
    )
    return TrainRun(tower, model, method, stream, step)


def take_steps_at_full_learning_rate(run: TrainRun, step_numbers: Iterable[int]) -> list[Tensor]:
    """Take steps at the full learning rate, then sleep for `injected_slowdown`; return the losses, on the device."""
    experiment = run.stream.experiment
    with time_synchronized_block(run.stream.device) as elapsed:
        losses = [
            run.step(run.stream.batch(number), experiment.optimizer.learning_rate)
            for number in step_numbers
        ]
    time.sleep(experiment.timing.injected_slowdown * elapsed.seconds)
    return losses


def steps_with_each_size_first(batch_shapes: BatchShapeSchedule, num_steps: int) -> list[int]:
    """Return the step numbers 0 to `num_steps`, exclusive, preceded by one step of each image size, the largest first.

    Later steps then compile and allocate nothing new, and the memory peak is the peak of the most demanding size: large
    images have long sequences, small ones have large batches for text tower and head.
    """
    steps = [
        *batch_shapes.first_step_of_each_image_side(0),
        *range(num_steps),
    ]
    return list(dict.fromkeys(steps))


def require_finite_losses(
    losses: list[Tensor], step_numbers: Sequence[int], stream: BatchStream[Any]
) -> None:
    """Raise NotFiniteError for the first loss that is not finite; this waits for the device."""
    finite = torch.stack(losses).isfinite()
    if not finite.all():
        first = int((~finite).nonzero()[0])
        step = step_numbers[first]
        raise NotFiniteError(step, stream.keys(step))


def count_trained_parameters(model: nn.Module) -> int:
    """Return the number of trained parameters, which a teacher's are not."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
