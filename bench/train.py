"""Pre-train a tower: warm-up, constant trunk, and a cool-down branched off at each budget; or a cosine for each.

Only towers whose rate has fallen are scored: a checkpoint of a schedule that is still at its full rate would cheat
the method that is slower to the same budget.
"""

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from bench.config import Experiment
from bench.distributed import group_of_all, whole_tensor
from bench.image_sizes import steps_for
from bench.profilers.clock import clock
from bench.record import Branch, Training
from bench.run import Assembled, assemble, check_finite, load_data
from bench.towers import Made
from losses.ranks import place
from models.checkpoint import save_tower
from models.image_tower import ImageTower

CHECK_EVERY = 20  # steps between two looks at the losses, each of which waits for the device


def train(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    budgets: Mapping[str, int],
    tower_path: Callable[[int], Path],
) -> Training:
    """Train once, leave one tower a budget, and return losses and branches.

    `budgets` are images by name; those of equal size share a branch. `tower_path` names the file of a branch by its
    images.
    """
    run = assemble(load_data(experiment, device, results))
    branches, cooldown_losses, trunk_losses = list[Branch](), list[list[float]](), list[float]()
    by_images = {images: tuple(n for n in budgets if budgets[n] == images) for images in sorted(budgets.values())}
    total = sum(_cooldown_steps(experiment, images) for images in by_images)
    total += _steps(experiment, max(by_images)) - _cooldown_steps(experiment, max(by_images))
    with (
        clock(device) as elapsed,
        tqdm(total=total, desc=experiment.name, unit="step", leave=False, mininterval=1) as bar,
    ):
        for images, names in by_images.items():
            branch_at = _steps(experiment, images) - _cooldown_steps(experiment, images)
            trunk_losses += _take(run, range(len(trunk_losses), branch_at), bar)
            trunk = _state(run)
            with torch.random.fork_rng():
                cooldown_losses.append(_cool_down(run, branch_at, _steps(experiment, images), bar))
            path = tower_path(images)
            weights = {name: whole_tensor(value) for name, value in _scored(run).state_dict().items()}
            if place(group_of_all())[0] == 0:
                save_tower(weights, path, Made(experiment=experiment, images=images, budgets=names).to_facts())
            branches.append(Branch(images=images, budgets=names, tower=path.name))
            _restore(run, trunk)
    return Training(
        trunk_losses=tuple(trunk_losses),
        cooldown_losses=tuple(map(tuple, cooldown_losses)),
        branches=tuple(branches),
        seconds=elapsed.seconds,
        skipped=run.stream.skipped,
    )


def trunk_rate(experiment: Experiment, step: int) -> float:
    """Return the learning rate of a trunk step: linear warm-up, then constant."""
    return experiment.learning_rate * min(1.0, (step + 1) / _warmup_steps(experiment))


def cooldown_rate(experiment: Experiment, step: int, first: int, last: int) -> float:
    """Return the learning rate of a step of [first, last), where it falls.

    WSD falls linearly to nearly 0. A cosine, which begins at step 0, warms up, then falls to `last_learning_rate`
    (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5 without restarts).
    """
    if experiment.schedule == "wsd":
        return trunk_rate(experiment, step) * (last - step) / (last - first + 1)
    warmup = _warmup_steps(experiment)
    if step < warmup:
        return trunk_rate(experiment, step)
    done = (step - warmup) / max(1, last - warmup)
    low, high = experiment.last_learning_rate, experiment.learning_rate
    return low + (high - low) * (1 + math.cos(math.pi * done)) / 2


def _warmup_steps(experiment: Experiment) -> int:
    return max(1, math.ceil(experiment.warmup_images / (experiment.mean_batch_size * _ranks())))


def _cool_down(run: Assembled, first: int, last: int, bar: "tqdm[None]") -> list[float]:
    return _take(run, range(first, last), bar, cool=(first, last))


def _take(run: Assembled, steps: range, bar: "tqdm[None]", cool: tuple[int, int] | None = None) -> list[float]:
    experiment, losses = run.stream.experiment, list[float]()
    for first in steps[::CHECK_EVERY]:
        window = range(first, min(first + CHECK_EVERY, steps.stop))
        pending: list[Tensor] = []
        for k in window:
            rate = cooldown_rate(experiment, k, *cool) if cool else trunk_rate(experiment, k)
            pending.append(run.step(run.stream.batch(k), rate))
        check_finite(pending, window, run.stream)
        losses += torch.stack(pending).tolist()
        bar.update(len(window))
        bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return losses


def _steps(experiment: Experiment, images: int) -> int:
    return max(2, steps_for(experiment, round(images / _ranks())))


def _ranks() -> int:
    return place(group_of_all())[1]


def _cooldown_steps(experiment: Experiment, images: int) -> int:
    """Return the steps of a budget after it left the trunk: a cosine has none."""
    share = experiment.cooldown_share if experiment.schedule == "wsd" else 1.0
    return max(1, round(_steps(experiment, images) * share))


def _scored(run: Assembled) -> ImageTower:
    """Return the tower with the weights that count: their running average where there is one."""
    return run.tower if run.step.average is None else cast("ImageTower", run.step.average.tower)


def _holders(run: Assembled) -> list[nn.Module | torch.optim.Optimizer]:
    return [run.model, run.step.optimizer, *([] if run.step.average is None else [run.step.average])]


def _state(run: Assembled) -> list[dict[str, Any]]:
    return [copy.deepcopy(holder.state_dict()) for holder in _holders(run)]


def _restore(run: Assembled, states: list[dict[str, Any]]) -> None:
    for holder, state in zip(_holders(run), states, strict=True):
        holder.load_state_dict(state)
