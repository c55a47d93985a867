"""The training batches and the training loop that fine-tuning, segmentation and detection share."""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn

from bench.data.crops import cropped, draw
from bench.data.order import shuffled_rows
from bench.environment.seeds import AUGMENTATION, STEP, seed_for
from bench.train.loop import cosine
from bench.train.step import averaging, decayed_apart, gradient_norm
from bench.transfer.tasks.pictures import Pictures
from bench.transfer.waiting import waited_for
from models.depth import parameters_by_depth
from models.image_tower import ImageTower
from models.patch_drop import PatchDrop

T = TypeVar("T")
Model = TypeVar("Model", bound=nn.Module)
PUBLISHED_WIDTH = 768  # of the smallest tower with published learning rates
BETAS, EPS = (0.9, 0.999), 1e-8
CHECK_EVERY = 50  # steps between checks for finite losses; a check synchronises the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Training settings: AdamW with a linear warm-up, then a cosine or step schedule."""

    epochs: int
    batch_size: int
    at_once: int  # images per micro-batch
    learning_rates: tuple[float, ...]  # see `best_rate`
    last_share: float = 0.1  # of the learning rate, at the end of a cosine
    falls: tuple[float, ...] = ()  # shares of the steps at which the rate falls to a tenth; empty for a cosine
    warmup_share: float = 0.02  # of the steps
    weight_decay: float = 0.1
    layer_decay: float = (
        1.0  # factor of the rate from the head to the last block, and from each block to the block before it
    )
    clip_norm: float | None = None  # of the gradient over all parameters
    ema_decay: float | None = None  # of the averaged weights, which are scored
    train_tower: bool = True  # otherwise only the parameters around it
    seed: int = 0

    def steps(self, pictures: int) -> int:
        """Return the number of steps for this number of images."""
        return math.ceil(self.epochs * pictures / self.batch_size)

    @property
    def moves_tower(self) -> bool:
        """Whether the tower's weights change and its batch norms update their statistics."""
        return self.train_tower and self.layer_decay > 0

    def best_rate(self, width: int, quality: Callable[[float], float]) -> float:
        """Return the learning rate of the highest quality; the first, without a search, for towers as wide as ViT-B."""
        first, *others = self.learning_rates
        return best_rate(self.learning_rates, quality)[0] if others and width < PUBLISHED_WIDTH else first

    def average_over(self, steps: int) -> float | None:
        """Return the EMA decay, or None for a run of fewer steps than its horizon, 1 / (1 - decay).

        More than a third of such an average would still be the initial weights, including the random head.
        """
        return None if self.ema_decay is None or steps < round(1 / (1 - self.ema_decay)) else self.ema_decay

    def share(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at a step."""
        warmup = max(1, round(steps * self.warmup_share))
        if step < warmup:
            return (step + 1) / warmup
        if self.falls:
            return 0.1 ** sum(step >= fall * steps for fall in self.falls)
        return cosine(1.0, self.last_share, (step - warmup) / max(1, steps - warmup))


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Batch k is a pure function of these fields. Batches cross the borders of epochs, so that all are full."""

    pictures: Pictures
    side: int  # of a crop, in pixels
    size: int  # images per batch
    crop_scale: tuple[float, float]
    flip: bool
    seed: int

    def load(self, k: int) -> tuple[UInt8[Tensor, "batch 3 side side"], Int[Tensor, " batch"]]:
        """Return the images of batch k, and their rows."""
        rows = shuffled_rows(self.seed, len(self.pictures), first=k * self.size, size=self.size)
        draws = draw(self.size, torch.Generator().manual_seed(seed_for(self.seed, AUGMENTATION, k)))
        crops = [
            cropped(self.pictures.rgb(row), drawn, self.crop_scale, self.side, flip=self.flip)
            for row, drawn in zip(rows.tolist(), draws, strict=True)
        ]
        return torch.stack(crops), rows

    def first(self, count: int) -> Iterator[tuple[UInt8[Tensor, "batch 3 side side"], Int[Tensor, " batch"]]]:
        """Yield the first `count` batches."""
        return loaded_ahead(self.load, count)


def loaded_ahead(load: Callable[[int], T], count: int) -> Iterator[T]:
    """Yield batches 0 to `count`, while each thread loads one of the next."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    try:
        waiting = deque(pool.submit(load, k) for k in range(min(threads, count)))
        for k in range(count):
            batch = waiting.popleft().result()
            if k + threads < count:
                waiting.append(pool.submit(load, k + threads))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def best_rate(rates: Sequence[float], quality: Callable[[float], float]) -> tuple[float, float]:
    """Return the rate of the highest quality, and this quality; of equal ones the lowest rate.

    Rates at which training diverges are skipped. FloatingPointError if it diverges at all rates.
    """
    found = dict[float, float]()
    for rate in rates:
        try:
            found[rate] = quality(rate)
        except FloatingPointError as error:
            print(f"this learning rate is skipped: {error}", file=sys.stderr, flush=True)
    if not found:
        raise FloatingPointError(f"no learning rate of {', '.join(map(str, rates))} can be trained at")
    best = max(found, key=lambda rate: (found[rate], -rate))
    return best, found[best]


def descended(
    model: Model,
    tower: ImageTower,
    batches: Iterable[Sequence[T]],
    steps: int,
    loss_of: Callable[[T], Tensor],
    how: Descent,
    learning_rate: float,
) -> Model:
    """Train a model that contains a tower, in place; return the model or its EMA, in evaluation mode.

    A batch is a sequence of equally large micro-batches, whose losses are averaged. Equal arguments give equal weights
    on a CPU. Raises FloatingPointError for a loss or a gradient that is not finite, ValueError for layer decay on a
    tower whose blocks are not known.
    """
    device = next(model.parameters()).device
    model.train().requires_grad_(requires_grad=True)
    tower.requires_grad_(how.moves_tower).train(how.moves_tower)
    for module in tower.modules():
        if isinstance(module, PatchDrop):
            module.eval()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        _groups(model, tower, how, learning_rate), betas=BETAS, eps=EPS, weight_decay=how.weight_decay, fused=True
    )
    clip, (average, take_average) = gradient_norm(parameters, how.clip_norm), averaging(model, how.average_over(steps))
    finite = torch.ones((), dtype=torch.bool, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed_for(how.seed, STEP))
        for step, batch in enumerate(waited_for(batches, steps, f"training at rate {learning_rate:g}")):
            for part in batch:
                loss = loss_of(part)
                (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
                finite &= loss.isfinite()
            finite &= clip().isfinite()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * how.share(step, steps) * group["share"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            take_average()
            if ((step + 1) % CHECK_EVERY == 0 or step + 1 == steps) and not finite:
                raise FloatingPointError(f"loss or gradient is not finite by step {step}, at rate {learning_rate:g}")
    return cast("Model", model if average is None else average).eval()


def _groups(model: nn.Module, tower: ImageTower, how: Descent, learning_rate: float) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer, each with its factor of the learning rate.

    Source of the factors: Clark et al. 2020, arXiv 2003.10555 (ELECTRA), section 3.1. The final norm belongs to the
    last block, so that a decay of 0 trains only the parameters around the tower.
    """
    of_tower = {id(parameter) for parameter in tower.parameters()}
    layers = [[parameter for parameter in model.parameters() if id(parameter) not in of_tower]]
    if how.moves_tower:
        whole = [list(tower.parameters())]
        layers += whole if how.layer_decay == 1 else reversed(parameters_by_depth(tower))
    shares = [how.layer_decay**below for below in range(len(layers))]
    return [
        group | {"share": share, "lr": learning_rate * share}
        for layer, share in zip(layers, shares, strict=True)
        for group in decayed_apart(layer)
    ]
