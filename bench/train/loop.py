"""Pre-train a tower: warm-up, constant trunk, and a cool-down branched off at each budget; or a cosine for each.

Only towers at the end of their schedule are scored: a checkpoint at the full rate would be a biased comparison of
methods that reach a budget at different speeds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from bench.data.image_sizes import images_before_step, nearest_step_count
from bench.experiment.config import Experiment
from bench.interfaces.method import added_method_text, get_label_method
from bench.profilers.clock import clock
from bench.records.record import Branch, Training
from bench.towers.head_file import save_head_beside_tower, save_tower
from bench.towers.provenance import Provenance
from bench.train.build import (
    TrainState,
    build_train_state,
    check_finite,
    load_data,
    log_workers,
    sample_counts,
)
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.distributed import world_rank, world_size
from bench.train.state import (
    ScheduleSegment,
    TrainProgress,
    collect_state,
    copy_state,
    gather_to_host,
    load_state,
    states_to_score,
)
from bench.train.train_logger import TrainLogger

CHECK_INTERVAL = 20  # steps between two reads of the losses, each of which waits for the device
MAX_LOSSES_KEPT = 200_000  # in a record of 4 MB; more losses are averaged over consecutive steps


def train(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    budgets: Mapping[str, int],
    tower_path: Callable[[int], Path],
    manager: CheckpointManager | None = None,
) -> Training:
    """Train once, write one tower per budget, and return losses and branches.

    `budgets` are images of all processes, by name; equal ones share a branch. `tower_path` returns the file of a tower
    by its images. A `manager` saves checkpoints and may resume from one. Rank 0 writes.
    """
    names_of_budgets: dict[int, tuple[str, ...]] = {}
    for name, images in sorted(budgets.items(), key=lambda item: item[1]):
        names_of_budgets[images] = (*names_of_budgets.get(images, ()), name)
    run = build_train_state(load_data(experiment, device, results))
    segments = plan_segments(experiment, list(names_of_budgets))
    log_workers(run.stream)
    with ExitStack() as stack:
        progress = TrainProgress()
        if manager is not None:
            progress = manager.restore(run)
            stack.enter_context(closing(manager))
        elapsed = stack.enter_context(clock(device))
        logger = TrainLogger(run.stream, segments[-1].end_step, len(progress.losses))
        stack.enter_context(closing(logger))
        for segment in segments:
            if len(progress.losses) >= segment.end_step:
                continue
            is_last = segment is segments[-1]
            _run_segment(run, segment, progress, logger, manager, is_last=is_last)
            if segment.images is not None:
                if manager is not None:
                    manager.close()  # so that the disk need not hold an unfinished checkpoint beside the tower
                names = names_of_budgets[segment.images]
                _save_tower(run, segment.images, names, tower_path(segment.images))
            if progress.trunk:
                load_state(run, progress.trunk)
                progress.trunk = {}
    branches = [
        Branch(images=images, budgets=names, tower=tower_path(images).name)
        for images, names in names_of_budgets.items()
    ]
    return Training(
        **_loss_fields(progress.losses, segments),
        branches=tuple(branches),
        seconds=progress.seconds + elapsed.seconds,
        **sample_counts(run.stream),
        overflows=int(run.step.overflows),
        num_samples=run.stream.order.num_samples,
    )


def plan_segments(experiment: Experiment, image_counts: Sequence[int]) -> list[ScheduleSegment]:
    """Return the segments to each budget's images: its part of the trunk, if any, and its cool-down.

    `image_counts` are cumulative, over all ranks, in ascending order.
    """
    training = experiment.training
    # A cosine has no trunk.
    cooldown_share = training.cooldown_share if training.schedule == "wsd" else 1.0
    segments: list[ScheduleSegment] = []
    steps_before = 0  # steps of trunk and cool-downs that are taken before a segment
    trunk_steps = 0
    for images in image_counts:
        end = max(2, nearest_step_count(experiment, round(images / world_size())))
        branch = end - max(1, round(end * cooldown_share))
        trunk = ScheduleSegment(steps_before, range(trunk_steps, branch), None)
        if trunk.batches:
            segments.append(trunk)
            steps_before = trunk.end_step
        cooldown = ScheduleSegment(steps_before, range(branch, end), images)
        segments.append(cooldown)
        steps_before = cooldown.end_step
        trunk_steps = branch
    return segments


def _run_segment(
    run: TrainState,
    segment: ScheduleSegment,
    progress: TrainProgress,
    logger: TrainLogger,
    manager: CheckpointManager | None,
    *,
    is_last: bool,
) -> None:
    """Take the steps of a segment that are left; before a cool-down that others follow, keep the state of the trunk."""
    experiment = run.stream.experiment
    while len(progress.losses) < segment.end_step:
        max_steps = CHECK_INTERVAL
        if manager is not None:
            max_steps = min(CHECK_INTERVAL, manager.maybe_save(run, progress, segment))
        if segment.images is not None and not is_last and not progress.trunk:
            progress.trunk = copy_state(collect_state(run))
        first = segment.batches[len(progress.losses) - segment.first_step]
        steps = range(first, min(first + max_steps, segment.batches.stop))
        losses = _take_steps(run, steps, segment, manager)
        progress.losses += losses
        end = first + len(losses)
        images = images_before_step(experiment, end) - images_before_step(experiment, first)
        rate = scheduled_rate(experiment, segment, end - 1)
        logger.log_steps(losses, images * world_size(), rate, run.step.grad_norms)
        run.step.grad_norms.clear()


def scheduled_rate(experiment: Experiment, segment: ScheduleSegment, step: int) -> float:
    """Return the learning rate of a step.

    On the trunk it rises linearly in the warm-up and is then constant. In a cool-down, WSD falls linearly to nearly 0.
    A cosine, which begins at step 0, falls to `min_learning_rate`.
    """
    images_per_step = experiment.mean_batch_size * world_size()
    warmup = max(1, math.ceil(experiment.training.warmup_images / images_per_step))
    highest = experiment.optimizer.learning_rate
    rate = highest * min(1.0, (step + 1) / warmup)
    if segment.images is None:
        return rate
    first = segment.batches.start
    last = segment.batches.stop
    if experiment.training.schedule == "wsd":
        return rate * (last - step) / (last - first + 1)
    if step < warmup:
        return rate
    fraction = (step - warmup) / max(1, last - warmup)
    return cosine_decay(highest, experiment.training.min_learning_rate, fraction)


def cosine_decay(high: float, low: float, fraction: float) -> float:
    """Return the rate at a fraction of the cosine from `high` to `low`.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5 without restarts.
    """
    return low + (high - low) * (1 + math.cos(math.pi * fraction)) / 2


def _take_steps(
    run: TrainState, steps: range, segment: ScheduleSegment, manager: CheckpointManager | None
) -> list[float]:
    """Take steps, fewer after a signal to end; return their losses."""
    device_losses: list[Tensor] = []
    for k in steps:
        learning_rate = scheduled_rate(run.stream.experiment, segment, k)
        device_losses.append(run.step(run.stream.batch(k), learning_rate))
        if manager is not None and manager.is_stopping:
            break
    check_finite(device_losses, steps, run.stream)
    losses: list[float] = torch.stack(device_losses).tolist()
    return losses


def _save_tower(run: TrainState, images: int, budgets: tuple[str, ...], path: Path) -> None:
    """Save the tower, and beside it what was trained with it; all ranks gather them, and rank 0 writes."""
    experiment = run.stream.experiment
    text = added_method_text(experiment)
    provenance = Provenance(experiment=experiment, images=images, budgets=budgets, method=text)
    label_method = get_label_method(experiment.method)
    row_labels = label_method.row_labels(experiment) if label_method else ()
    tower, head = states_to_score(run)
    whole_tower = gather_to_host(tower)
    whole_head = gather_to_host(head)
    if world_rank() == 0:
        save_head_beside_tower(whole_head, path, provenance, row_labels)
        save_tower(whole_tower, path, provenance.to_facts())


def _loss_fields(losses: list[float], segments: list[ScheduleSegment]) -> dict[str, Any]:
    """Return the fields of a record with the losses of the trunk and of the cool-downs."""
    steps_per_loss = math.ceil(len(losses) / MAX_LOSSES_KEPT)
    trunk_losses: list[float] = []
    cooldown_losses: list[tuple[float, ...]] = []
    for segment in segments:
        segment_losses = losses[segment.first_step : segment.end_step]
        if segment.images is None:
            trunk_losses += segment_losses
        else:
            incomplete = len(segment_losses) % steps_per_loss
            cooldown_losses.append(_chunk_means(segment_losses[incomplete:], steps_per_loss))
    return {
        "trunk_losses": _chunk_means(trunk_losses, steps_per_loss),
        "cooldown_losses": tuple(cooldown_losses),
        "steps_per_loss": steps_per_loss,
    }


def _chunk_means(losses: list[float], size: int) -> tuple[float, ...]:
    """Return the means of `size` consecutive losses; an incomplete rest is dropped."""
    starts = range(0, len(losses) - size + 1, size)
    return tuple(fmean(losses[start : start + size]) for start in starts)
