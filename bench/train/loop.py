"""Pre-train a tower: warm-up, constant trunk, and a cool-down branched off at each budget; or a cosine for each.

Only towers at the end of their schedule are scored: a checkpoint at the full rate would be a biased comparison of
methods that reach a budget at different speeds.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from statistics import fmean

import torch
from msgspec.structs import replace
from torch import Tensor

from bench.config import Experiment
from bench.image_sizes import images_before, steps_for
from bench.profilers.clock import clock
from bench.record import Branch, Training
from bench.towers.head_file import save_head
from bench.towers.made import Made
from bench.train.build import Assembled, assemble, check_finite, load_data
from bench.train.checkpoint_manager import Keeper
from bench.train.distributed import expect_a_step, group_of_all
from bench.train.state import copied, load_state, scored_head, scored_weights, state_of
from bench.train.train_logger import Watch
from bench.train.train_progress import Course, Leg
from losses.collectives import place
from models.checkpoint import save_tower

CHECK_EVERY = 20  # steps between two reads of the losses, each of which waits for the device
LOSSES_KEPT = 200_000  # in a record of 4 MB; more losses are averaged over consecutive steps


def train(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    budgets: Mapping[str, int],
    tower_path: Callable[[int], Path],
    keeper: Keeper | None = None,
) -> Training:
    """Train once, write one tower per budget, and return losses and branches.

    `budgets` are images of all processes, by name; equal ones share a branch. `tower_path` returns the file of a tower
    by its images. A `keeper` saves checkpoints and may resume from one. Rank 0 writes.
    """
    run, legs = assemble(load_data(experiment, device, results)), legs_of(experiment, budgets)
    course = Course() if keeper is None else keeper.take_up(run)
    events = "" if keeper is None else keeper.keeping.tensorboard
    with clock(device) as elapsed, closing(Watch(run.stream, legs[-1].end, len(course.losses), events)) as watch:
        for leg in legs:
            if len(course.losses) < leg.end:
                _take_leg(run, leg, course, watch, keeper, is_last=leg is legs[-1])
                if leg.images is not None:
                    _leave_tower(run, leg.images, budgets, tower_path)
                if course.trunk:
                    load_state(run, course.trunk)
                    course.trunk = {}
    seconds = course.seconds + elapsed.seconds
    found = _training(course.losses, legs, budgets, tower_path, seconds)
    growth, stream = watch.growth.bytes_per_step, run.stream
    return replace(found, skipped=stream.skipped, unverified=stream.is_unverified, rss_bytes_per_step=growth)


def legs_of(experiment: Experiment, budgets: Mapping[str, int]) -> list[Leg]:
    """Return the segments to each budget: its part of the trunk, if any, and its cool-down."""
    legs, begin, trunk = list[Leg](), 0, 0
    for images in sorted(set(budgets.values())):
        last = _steps(experiment, images)
        branch_at = last - _cooldown_steps(experiment, images)
        for leg in (
            Leg(begin, range(trunk, branch_at), None),
            Leg(begin + branch_at - trunk, range(branch_at, last), images),
        ):
            if leg.steps:
                legs.append(leg)
                begin = leg.end
        trunk = branch_at
    return legs


def _take_leg(run: Assembled, leg: Leg, course: Course, watch: Watch, keeper: Keeper | None, *, is_last: bool) -> None:
    """Take the remaining steps of a segment."""
    while (taken := len(course.losses)) < leg.end:
        most = CHECK_EVERY if keeper is None else min(CHECK_EVERY, keeper.look(run, course, leg))
        if leg.images is not None and not is_last and not course.trunk:
            course.trunk = copied(state_of(run))
        expect_a_step()
        ahead = leg.steps[taken - leg.begin :][:most]
        losses = _take(run, ahead, leg, keeper)
        course.losses += losses
        watch.tell(
            losses, images_of(run.stream.experiment, ahead[: len(losses)]), _rate(run, leg, ahead[len(losses) - 1])
        )


def trunk_rate(experiment: Experiment, step: int) -> float:
    """Return the learning rate of a trunk step: linear warm-up, then constant."""
    return experiment.learning_rate * min(1.0, (step + 1) / _warmup_steps(experiment))


def cooldown_rate(experiment: Experiment, step: int, first: int, last: int) -> float:
    """Return the learning rate of a step in a cool-down of the steps [first, last).

    WSD falls linearly to nearly 0. A cosine, which begins at step 0, warms up, then falls to `last_learning_rate`.
    """
    if experiment.schedule == "wsd":
        return trunk_rate(experiment, step) * (last - step) / (last - first + 1)
    warmup = _warmup_steps(experiment)
    if step < warmup:
        return trunk_rate(experiment, step)
    done = (step - warmup) / max(1, last - warmup)
    return cosine(experiment.learning_rate, experiment.last_learning_rate, done)


def cosine(high: float, low: float, done: float) -> float:
    """Return the rate at a fraction `done` of the cosine from `high` to `low`.

    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5 without restarts.
    """
    return low + (high - low) * (1 + math.cos(math.pi * done)) / 2


def _warmup_steps(experiment: Experiment) -> int:
    return max(1, math.ceil(experiment.warmup_images / (experiment.mean_batch_size * _ranks())))


def _rate(run: Assembled, leg: Leg, step: int) -> float:
    experiment = run.stream.experiment
    if leg.images is None:
        return trunk_rate(experiment, step)
    return cooldown_rate(experiment, step, leg.steps.start, leg.steps.stop)


def _take(run: Assembled, steps: range, leg: Leg, keeper: Keeper | None) -> list[float]:
    """Take steps, fewer after a signal to end; return their losses."""
    pending: list[Tensor] = []
    for k in steps:
        pending.append(run.step(run.stream.batch(k), _rate(run, leg, k)))
        if keeper is not None and keeper.ends_now:
            break
    check_finite(pending, steps[: len(pending)], run.stream)
    losses: list[float] = torch.stack(pending).tolist()
    return losses


def _steps(experiment: Experiment, images: int) -> int:
    return max(2, steps_for(experiment, round(images / _ranks())))


def _ranks() -> int:
    return place(group_of_all())[1]


def images_of(experiment: Experiment, steps: range) -> int:
    """Return the images of consecutive steps, of all processes."""
    return (images_before(experiment, steps.stop) - images_before(experiment, steps.start)) * _ranks()


def _cooldown_steps(experiment: Experiment, images: int) -> int:
    """Return the steps of a budget after it leaves the trunk; a cosine has no trunk."""
    share = experiment.cooldown_share if experiment.schedule == "wsd" else 1.0
    return max(1, round(_steps(experiment, images) * share))


def _named(budgets: Mapping[str, int], images: int) -> tuple[str, ...]:
    return tuple(name for name in budgets if budgets[name] == images)


def _leave_tower(run: Assembled, images: int, budgets: Mapping[str, int], tower_path: Callable[[int], Path]) -> None:
    made = Made(experiment=run.stream.experiment, images=images, budgets=_named(budgets, images))
    weights, around = scored_weights(run), scored_head(run)
    if place(group_of_all())[0] == 0:
        save_head(around, tower_path(images), made, run.method.row_labels(run.stream.experiment))
        save_tower(weights, tower_path(images), made.to_facts())


def _training(
    losses: list[float],
    legs: list[Leg],
    budgets: Mapping[str, int],
    tower_path: Callable[[int], Path],
    seconds: float,
) -> Training:
    """Split the losses into those of the trunk and of the cool-downs."""
    each = math.ceil(len(losses) / LOSSES_KEPT)
    cooldowns = [leg for leg in legs if leg.images is not None]
    trunk = [loss for leg in legs if leg.images is None for loss in losses[leg.begin : leg.end]]
    return Training(
        trunk_losses=_averaged(trunk, each),
        cooldown_losses=tuple(
            _averaged(losses[leg.end - len(leg.steps) // each * each : leg.end], each) for leg in cooldowns
        ),
        branches=tuple(
            Branch(images=images, budgets=_named(budgets, images), tower=tower_path(images).name)
            for images in sorted(set(budgets.values()))
        ),
        seconds=seconds,
        steps_per_loss=each,
    )


def _averaged(losses: list[float], each: int) -> tuple[float, ...]:
    """Return the means of `each` consecutive losses; an incomplete rest is dropped."""
    return tuple(fmean(losses[first : first + each]) for first in range(0, len(losses) // each * each, each))
