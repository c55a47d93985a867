"""Pre-train a tower: warm-up, constant trunk, and a cool-down branched off at each budget; or no trunk.

Only towers at the end of their schedule are scored: a checkpoint at the full rate would be a biased comparison of
methods that reach a budget at different speeds.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.data.image_sizes import make_batch_shape_schedule
from bench.experiment.config import Experiment
from bench.experiment.fields import TrainingSettings
from bench.interfaces.method import LabelMethod, get_method, method_text_if_from_extension
from bench.interfaces.schedule import SCHEDULES
from bench.profilers.clock import time_synchronized_block
from bench.records.record import CooledDownTower, Training
from bench.tables.groups import group_by
from bench.towers.head_file import save_head_beside_tower, save_weights
from bench.towers.provenance import TowerProvenance
from bench.train.build import (
    TrainRun,
    build_train_run,
    log_loader_workers,
    make_sample_record_fields,
    open_batch_stream,
    require_finite_losses,
)
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.distributed import world_rank, world_size
from bench.train.state import (
    ScheduleSegment,
    TrainProgress,
    collect_state,
    copy_state_to_cpu,
    gather_on_rank0,
    load_state,
    split_tower_and_head_weights,
)
from bench.train.train_logger import TrainLogger

CHECK_INTERVAL = 20  # steps between two reads of the losses, each of which waits for the device


def train(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    images_by_budget: Mapping[str, int],
    tower_path: Callable[[int], Path],
    manager: CheckpointManager | None = None,
    run: TrainRun | None = None,
) -> Training:
    """Train an experiment once, write a tower for each budget, and return the losses and the towers' names.

    `images_by_budget` counts images over all ranks, by the name of the budget; equal numbers share a tower.
    `tower_path` returns the file of a tower by its number of images. A `manager` saves checkpoints and may resume from
    one. Without a `run`, it is built on the experiment's data. Rank 0 writes.
    """
    names_of_budgets = group_by(
        sorted(images_by_budget, key=images_by_budget.__getitem__), images_by_budget.__getitem__
    )
    batch_shapes = make_batch_shape_schedule(experiment)
    steps_by_budget = {}
    for images in names_of_budgets:
        steps_by_budget[images] = batch_shapes.nearest_step_count(round(images / world_size()))
    run = run or build_train_run(open_batch_stream(experiment, device, results))
    segments = plan_schedule_segments(experiment.training, steps_by_budget)
    log_loader_workers(run.stream)
    with ExitStack() as stack:
        progress = TrainProgress()
        if manager is not None:
            progress = manager.restore(run)
            stack.callback(manager.wait_until_written)
        elapsed = stack.enter_context(time_synchronized_block(device))
        logger = TrainLogger(run.stream, segments[-1].stop_step, len(progress.losses))
        for segment in segments:
            if len(progress.losses) >= segment.stop_step:
                continue
            is_last = segment is segments[-1]
            _run_segment(run, segment, progress, logger, manager, is_last=is_last)
            if segment.budget_images is not None:
                if manager is not None:
                    # So that the disk need not hold an unfinished checkpoint beside the tower.
                    manager.wait_until_written()
                names = tuple(names_of_budgets[segment.budget_images])
                _gather_and_save_tower_and_head(
                    run, segment.budget_images, names, tower_path(segment.budget_images)
                )
            if progress.trunk_state:
                load_state(run, progress.trunk_state)
                progress.trunk_state = {}
    branches = [
        CooledDownTower(images=images, budgets=tuple(names), tower=tower_path(images).name)
        for images, names in names_of_budgets.items()
    ]
    return Training(
        **_make_loss_record_fields(progress.losses, segments),
        branches=tuple(branches),
        seconds=progress.seconds_before + elapsed.seconds,
        **make_sample_record_fields(run.stream),
        overflows=int(run.step.overflows),
        num_samples=run.stream.order.num_samples,
    )


def plan_schedule_segments(
    training: TrainingSettings, steps_by_budget: Mapping[int, int]
) -> list[ScheduleSegment]:
    """Return the segments to each budget: its part of the trunk, if any, and its cool-down.

    `steps_by_budget` has the number of steps from the start to a budget, by the budget's images over all ranks, in
    ascending order.
    """
    cooldown_share = SCHEDULES[training.schedule].cooldown_share(training)
    segments: list[ScheduleSegment] = []
    steps_before = 0  # steps of trunk and cool-downs that are taken before a segment
    trunk_steps = 0
    for images, num_steps in steps_by_budget.items():
        end = max(2, num_steps)
        branch = end - max(1, round(end * cooldown_share))
        trunk = ScheduleSegment(steps_before, range(trunk_steps, branch), None)
        if trunk.batch_numbers:
            segments.append(trunk)
            steps_before = trunk.stop_step
        cooldown = ScheduleSegment(steps_before, range(branch, end), images)
        segments.append(cooldown)
        steps_before = cooldown.stop_step
        trunk_steps = branch
    return segments


def _run_segment(
    run: TrainRun,
    segment: ScheduleSegment,
    progress: TrainProgress,
    logger: TrainLogger,
    manager: CheckpointManager | None,
    *,
    is_last: bool,
) -> None:
    """Take the steps of a segment that are left; before a cool-down that others follow, keep the state of the trunk."""
    experiment = run.stream.experiment
    batch_shapes = run.stream.order.batch_shapes
    while len(progress.losses) < segment.stop_step:
        max_steps = CHECK_INTERVAL
        if manager is not None:
            max_steps = min(
                CHECK_INTERVAL, manager.save_if_due_and_count_steps_to_next(run, progress, segment)
            )
        if not segment.is_before_cooldowns and not is_last and not progress.trunk_state:
            progress.trunk_state = copy_state_to_cpu(collect_state(run))
        first = segment.batch_numbers[len(progress.losses) - segment.first_step]
        steps = range(first, min(first + max_steps, segment.batch_numbers.stop))
        losses = _take_steps(run, steps, segment, manager)
        progress.losses += losses
        end = first + len(losses)
        images = sum(batch_shapes.shape_at(number).num_images for number in range(first, end))
        rate = scheduled_learning_rate(experiment, segment, end - 1)
        logger.log_steps(losses, images * world_size(), rate, run.step.grad_norms)
        run.step.grad_norms.clear()


def scheduled_learning_rate(
    experiment: Experiment, segment: ScheduleSegment, batch_number: int
) -> float:
    """Return the learning rate of the step with this batch number in a segment.

    On the trunk it rises linearly in the warm-up and is then constant; the schedule sets it in a cool-down.
    """
    training = experiment.training
    images_per_step = experiment.mean_device_batch_size * world_size()
    warmup = max(1, math.ceil(training.warmup_images / images_per_step))  # steps
    rate = experiment.optimizer.learning_rate * min(1.0, (batch_number + 1) / warmup)
    if segment.is_before_cooldowns:
        return rate
    schedule = SCHEDULES[training.schedule]
    return schedule.cooldown_learning_rate(
        rate, batch_number, segment.batch_numbers, warmup, training
    )


def _take_steps(
    run: TrainRun, steps: range, segment: ScheduleSegment, manager: CheckpointManager | None
) -> list[float]:
    """Take the steps with these batch numbers, fewer after a signal to end; return their losses."""
    device_losses: list[Tensor] = []
    for number in steps:
        learning_rate = scheduled_learning_rate(run.stream.experiment, segment, number)
        device_losses.append(run.step(run.stream.batch(number), learning_rate))
        if manager is not None and manager.must_stop_before_step:
            break
    require_finite_losses(device_losses, steps, run.stream)
    losses: list[float] = torch.stack(device_losses).tolist()
    return losses


def _gather_and_save_tower_and_head(
    run: TrainRun, images: int, budgets: tuple[str, ...], path: Path
) -> None:
    """Save the tower, and beside it what was trained with it. All ranks must call it; rank 0 writes."""
    experiment = run.stream.experiment
    text = method_text_if_from_extension(experiment)
    provenance = TowerProvenance(experiment=experiment, images=images, budgets=budgets, method=text)
    method = get_method(experiment.method)
    row_labels = method.row_synsets(experiment) if isinstance(method, LabelMethod) else ()
    tower, head = split_tower_and_head_weights(run)
    whole_tower = gather_on_rank0(tower)
    whole_head = gather_on_rank0(head)
    if world_rank() == 0:
        save_head_beside_tower(whole_head, path, provenance, row_labels)
        if whole_tower:  # stored features have none
            save_weights(whole_tower, path, provenance.to_metadata())


def _make_loss_record_fields(
    losses: list[float], segments: list[ScheduleSegment]
) -> dict[str, Any]:
    """Return the fields of `Training` with the losses of the trunk and of each cool-down, by field."""
    trunk_losses: list[float] = []
    cooldown_losses: list[tuple[float, ...]] = []
    for segment in segments:
        segment_losses = losses[segment.first_step : segment.stop_step]
        if segment.is_before_cooldowns:
            trunk_losses += segment_losses
        else:
            cooldown_losses.append(tuple(segment_losses))
    return {"trunk_losses": tuple(trunk_losses), "cooldown_losses": tuple(cooldown_losses)}
