"""The recipe and the loop of a training on a task."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from bench.console.console import log
from bench.console.progress import iterate_with_progress_bar
from bench.data.order import rows_of_shuffled_epochs
from bench.environment.seeds import AUGMENTATION, STEP, derive_seed
from bench.interfaces.optimizer import weight_decay_groups
from bench.records.scores import TaskTrainingSettings
from bench.train.schedules import cosine_decay
from bench.train.step import make_clip_and_return_norm_function
from bench.train.weight_average import make_ema_and_update_function
from models.image_tower import ImageTower
from models.patch_drop import PatchDrop
from models.tower_blocks import group_parameters_by_depth

T = TypeVar("T")
Model = TypeVar("Model", bound=nn.Module)
PUBLISHED_WIDTH = 768  # of the smallest tower with published learning rates
BETAS = (0.9, 0.999)
EPS = 1e-8
MIN_STEPS_PER_WARMUP_STEP = 10  # shorter trainings use `warmup_share`
CHECK_EVERY = 50  # steps between checks for finite losses; a check synchronises the device


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTrainingRecipe:
    """Training settings: AdamW with a linear warm-up, then a cosine or step schedule."""

    epochs: int
    batch_size: int
    # Shares of the steps at which the rate falls to a tenth; empty for a cosine.
    milestones: tuple[float, ...] = ()
    warmup_share: float = 0.02  # of the steps
    # In place of the share, in runs of at least ten times as many steps.
    warmup_steps: int | None = None
    final_learning_rate_ratio: float = 0.1  # of a cosine: the last rate over the highest
    weight_decay: float = 0.1
    # Factor of the rate from the head to the last block, and from each block to its previous.
    layer_decay: float = 1.0
    clip_norm: float | None = None  # of the gradient over all parameters
    ema_decay: float | None = None  # of the averaged weights, which are scored
    train_tower: bool = True  # otherwise only the parameters around it
    seed: int = 0

    def count_steps(self, num_images: int) -> int:
        """Return the number of steps of a training on this number of images."""
        return math.ceil(self.epochs * num_images / self.batch_size)

    def count_warmup_steps(self, num_steps: int) -> int:
        """Return the number of warm-up steps of a training of `num_steps` steps."""
        if (
            self.warmup_steps is not None
            and num_steps >= MIN_STEPS_PER_WARMUP_STEP * self.warmup_steps
        ):
            return self.warmup_steps
        return max(1, round(num_steps * self.warmup_share))

    def ema_decay_for(self, num_steps: int) -> float | None:
        """Return the EMA decay, or None for a run of fewer steps than its horizon, 1 / (1 - decay).

        More than a third of such an average would still be the initial weights, including the random head.
        """
        if self.ema_decay is None or num_steps < round(1 / (1 - self.ema_decay)):
            return None
        return self.ema_decay

    def learning_rate_factor(self, step: int, num_steps: int) -> float:
        """Return the learning rate at a step over the highest one, from 0 to 1."""
        warmup = self.count_warmup_steps(num_steps)
        if step < warmup:
            return (step + 1) / warmup
        if self.milestones:
            return 0.1 ** sum(step >= fall * num_steps for fall in self.milestones)
        done = (step - warmup) / max(1, num_steps - warmup)
        return cosine_decay(1.0, self.final_learning_rate_ratio, done)

    def draw_batch_rows(
        self, num_images: int, batch_number: int
    ) -> tuple[Int[Tensor, " batch"], torch.Generator]:
        """Return the rows of a batch in an order of the seed, and the generator for the augmentation of the batch.

        Batches cross the borders of epochs, so that all are full.
        """
        first = batch_number * self.batch_size
        rows = rows_of_shuffled_epochs(self.seed, num_images, start=first, size=self.batch_size)
        generator = torch.Generator().manual_seed(
            derive_seed(self.seed, AUGMENTATION, batch_number)
        )
        return rows, generator

    def make_task_training_record(
        self, num_images: int, image_size: int, learning_rate: float
    ) -> TaskTrainingSettings:
        """Return the settings of a training on this number of images, as its record stores them."""
        steps = self.count_steps(num_images)
        return TaskTrainingSettings(
            image_size=image_size,
            batch_size=self.batch_size,
            steps=steps,
            warmup_steps=self.count_warmup_steps(steps),
            learning_rate=learning_rate,
            layer_decay=self.layer_decay,
            is_averaged=self.ema_decay_for(steps) is not None,
        )


def prefetch(load_batch: Callable[[int], T], num_batches: int) -> Iterator[T]:
    """Yield `load_batch(0)` to `load_batch(num_batches - 1)`, while each thread loads one of the next batches."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    try:
        waiting = deque(
            pool.submit(load_batch, number) for number in range(min(threads, num_batches))
        )
        for number in range(num_batches):
            batch = waiting.popleft().result()
            if number + threads < num_batches:
                waiting.append(pool.submit(load_batch, number + threads))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def find_best_learning_rate(
    rates: Sequence[float], measure_quality: Callable[[float], float]
) -> tuple[float, float]:
    """Return the learning rate of the highest quality, and this quality; of equal ones the lowest rate.

    Rates at which training diverges are skipped. FloatingPointError if it diverges at all rates.
    """
    qualities = {}
    for rate in rates:
        try:
            qualities[rate] = measure_quality(rate)
        except FloatingPointError as error:
            log(f"this learning rate is skipped: {error}")
    if not qualities:
        raise FloatingPointError(
            f"no learning rate of {', '.join(map(str, rates))} can be trained at"
        )
    best = max(qualities, key=lambda rate: (qualities[rate], -rate))
    return best, qualities[best]


def train_on_task(
    model: Model,
    tower: ImageTower,
    batches: Iterable[Sequence[T]],
    num_steps: int,
    compute_loss: Callable[[T], Tensor],
    recipe: TaskTrainingRecipe,
    learning_rate: float,
) -> Model:
    """Train a model that contains a tower, in place; return the model or its EMA, in evaluation mode.

    A batch is a sequence of equally large micro-batches, whose losses are averaged. Equal arguments give equal weights
    on a CPU. Raises FloatingPointError for a loss or a gradient that is not finite.
    """
    device = next(model.parameters()).device
    model.train().requires_grad_(requires_grad=True)
    tower.requires_grad_(recipe.train_tower).train(recipe.train_tower)
    for module in tower.modules():
        if isinstance(module, PatchDrop):
            module.eval()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = _make_parameter_groups(model, tower, recipe, learning_rate)
    optimizer = torch.optim.AdamW(
        groups, betas=BETAS, eps=EPS, weight_decay=recipe.weight_decay, fused=True
    )
    clip = make_clip_and_return_norm_function(parameters, recipe.clip_norm)
    ema, update_ema = make_ema_and_update_function(model, recipe.ema_decay_for(num_steps))
    finite = torch.ones((), dtype=torch.bool, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(recipe.seed, STEP))
        for step, batch in enumerate(
            iterate_with_progress_bar(
                batches, num_steps, f"training at rate {learning_rate:g}", "steps"
            )
        ):
            for micro_batch in batch:
                loss = compute_loss(micro_batch)
                (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
                finite &= loss.isfinite()
            finite &= clip().isfinite()
            rate = learning_rate * recipe.learning_rate_factor(step, num_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            update_ema()
            done = step + 1
            is_checked = done % CHECK_EVERY == 0 or done == num_steps
            if is_checked and not finite:
                raise FloatingPointError(
                    f"loss or gradient is not finite by step {step}, at rate {learning_rate:g}"
                )
    return cast("Model", model if ema is None else ema).eval()


def _make_parameter_groups(
    model: nn.Module, tower: ImageTower, recipe: TaskTrainingRecipe, learning_rate: float
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer, each with its share of the learning rate as `share`.

    Source of the factors: Clark et al. 2020, arXiv 2003.10555 (ELECTRA), section 3.1. The final norm belongs to the
    last block.
    """
    tower_parameters = {id(parameter) for parameter in tower.parameters()}
    other_parameters = [
        parameter for parameter in model.parameters() if id(parameter) not in tower_parameters
    ]
    layers = [other_parameters]
    if recipe.train_tower and recipe.layer_decay == 1:
        layers.append(list(tower.parameters()))
    elif recipe.train_tower:
        layers += reversed(group_parameters_by_depth(tower))
    groups = []
    for depth, layer in enumerate(layers):
        share = recipe.layer_decay**depth
        rate = {"share": share, "lr": learning_rate * share}
        groups += [group | rate for group in weight_decay_groups(layer)]
    return groups
