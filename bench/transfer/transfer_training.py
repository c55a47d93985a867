"""Train a model that has a tower in it: the loop that fine-tuning, segmentation and detection share."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from bench.environment.seeds import STEP, seed_for
from bench.train.loop import cosine
from bench.train.step import averaging, decayed_apart, gradient_norm
from bench.transfer.waiting import waited_for
from models.depth import parameters_by_depth
from models.image_tower import ImageTower
from models.patch_drop import PatchDrop

T = TypeVar("T")
Model = TypeVar("Model", bound=nn.Module)
PUBLISHED_WIDTH = 768  # of the smallest tower whose rates were published
BETAS, EPS = (0.9, 0.999), 1e-8
CHECK_EVERY = 50  # steps between two looks at the losses, each of which waits for the device


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """How weights are learnt: AdamW, a linear warm-up, then a cosine or steps down."""

    epochs: int
    batch_size: int
    at_once: int  # pictures of a batch that are computed together
    learning_rates: tuple[float, ...]  # see `rates`
    last_share: float = 0.1  # of the learning rate, where a cosine ends
    falls: tuple[float, ...] = ()  # shares of the steps at which the rate falls to a tenth; empty: a cosine
    warmup_share: float = 0.02  # of the steps
    weight_decay: float = 0.1
    layer_decay: float = 1.0  # of the rate, from the head to the last block and from each block to the one before it
    clip_norm: float | None = None  # of the whole gradient
    ema_decay: float | None = None  # of a running average of the weights, which is what is scored
    train_tower: bool = True  # or what is around it alone
    seed: int = 0

    def steps(self, pictures: int) -> int:
        """Return the steps over so many pictures."""
        return math.ceil(self.epochs * pictures / self.batch_size)

    @property
    def moves_tower(self) -> bool:
        """Whether the tower's weights change, and its batch norms follow the pictures."""
        return self.train_tower and self.layer_decay > 0

    def rates(self, width: int) -> tuple[float, ...]:
        """Return the rates to choose from on the validation part: the first alone for towers as wide as ViT-B's."""
        return self.learning_rates[:1] if width >= PUBLISHED_WIDTH else self.learning_rates

    def average_over(self, steps: int) -> float | None:
        """Return the decay of the running average, None for a run of fewer steps than its horizon, 1 / (1 - decay).

        Such an average would still hold more than a third of the weights that the run began with, the new head's
        random ones among them.
        """
        return None if self.ema_decay is None or steps < round(1 / (1 - self.ema_decay)) else self.ema_decay

    def share(self, step: int, steps: int) -> float:
        """Return the share of the learning rate that a step of so many has."""
        warmup = max(1, round(steps * self.warmup_share))
        if step < warmup:
            return (step + 1) / warmup
        if self.falls:
            return 0.1 ** sum(step >= fall * steps for fall in self.falls)
        return cosine(1.0, self.last_share, (step - warmup) / max(1, steps - warmup))


def best_rate(rates: Sequence[float], quality: Callable[[float], float]) -> tuple[float, float]:
    """Return the rate of the highest quality, and this; of equal ones the lowest rate.

    A rate at which a training diverges has lost. FloatingPointError where all do.
    """
    found = dict[float, float]()
    for rate in rates:
        try:
            found[rate] = quality(rate)
        except FloatingPointError as error:
            print(f"not among the rates to choose from: {error}", file=sys.stderr, flush=True)
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
    """Train a model that holds a tower, in place; return it, or its running average, ready to be scored.

    A batch comes in parts of as many pictures, whose losses are averaged. Equal arguments give equal weights on a CPU.
    Raises FloatingPointError for a loss or a gradient that is not finite, ValueError for layer decay on a tower whose
    blocks are not known.
    """
    device = next(model.parameters()).device
    _to_train(model, tower, how)
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


def _to_train(model: nn.Module, tower: ImageTower, how: Descent) -> None:
    """Let a frozen tower behave as when it is scored; no patch is dropped, whatever pre-training dropped."""
    model.train().requires_grad_(requires_grad=True)
    tower.requires_grad_(how.moves_tower).train(how.moves_tower)
    for module in tower.modules():
        if isinstance(module, PatchDrop):
            module.eval()


def _groups(model: nn.Module, tower: ImageTower, how: Descent, learning_rate: float) -> list[dict[str, Any]]:
    """Return groups for an optimizer, each with its share of the learning rate.

    Source of the shares: Clark et al. 2020, arXiv 2003.10555 (ELECTRA), section 3.1. The norm behind the last block is
    the last block's here, so that a decay of 0 trains what is around the tower alone.
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
