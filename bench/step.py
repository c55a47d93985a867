"""One update of a model: no clock, no log, no branch, and nothing is read back from the device."""

import copy
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.config import Experiment
from bench.data.stream import Batch
from bench.data.targets import Target
from bench.methods import Method

T = TypeVar("T", bound=Target)
GRAPHS_A_SIZE = 8  # dynamo's own limit where there is one size: captions have several widths


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """Forward, backward, update; apart so that a pass of its own can time them apart.

    `update` skips, on the device, what has a loss or a gradient that is not finite, and returns NaN for it.
    """

    forward: Callable[[Batch[T]], Float[Tensor, ""]]
    backward: Callable[[Float[Tensor, ""]], None]
    update: Callable[[Float[Tensor, ""], float], Float[Tensor, ""]]
    optimizer: torch.optim.Optimizer
    average: nn.Module | None  # the model with the running average of its weights, where the experiment keeps one

    def __call__(self, batch: Batch[T], learning_rate: float) -> Float[Tensor, ""]:
        """Update once; the loss stays on the device, for reading it would wait for the step."""
        loss = self.forward(batch)
        self.backward(loss)
        return self.update(loss, learning_rate)


def make_step(
    experiment: Experiment, model: nn.Module, method: Method[T], precision: str, *, compiled: bool
) -> Step[T]:
    """Decide once how a model is updated: precision, compilation, optimizer, clipping, averaging."""
    device = next(model.parameters()).device
    optimizer = make_optimizer(experiment, model)
    loss_of: Callable[..., Tensor] = _compiled(method.loss, len(experiment.sides)) if compiled else method.loss
    norm_of_gradient = _gradient_norm(list(model.parameters()), experiment.clip_norm)
    average, take_average = _averaging(model, experiment.ema_decay)

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def forward(batch: Batch[T]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            return loss_of(model, batch.images, batch.target)

    def backward(loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def update(loss: Tensor, learning_rate: float) -> Tensor:
        finite = loss.detach().isfinite() & norm_of_gradient().isfinite()
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined] # what GradScaler tells a fused optimizer
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        method.after_update(model)
        take_average()
        return torch.where(finite, loss.detach(), math.nan)

    return Step(forward, backward, update, optimizer, average)


def make_optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.AdamW:
    """Return fused AdamW (on a CPU nine times as fast as the default form) without decay on vectors and scalars.

    Biases, norms, class embedding, scale and bias of the logits have fewer than two dimensions: open_clip_train's rule.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2]},  # noqa: PLR2004
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},  # noqa: PLR2004
    ]
    return torch.optim.AdamW(
        groups,
        lr=experiment.learning_rate,
        betas=experiment.betas,
        eps=experiment.eps,
        weight_decay=experiment.weight_decay,
        fused=True,
    )


def _compiled(loss: Callable[..., Tensor], sizes: int) -> Callable[..., Tensor]:
    """Compile a loss. Every image size is a graph of its own; beyond dynamo's limit they would run uncompiled."""
    from torch._dynamo import config

    config.cache_size_limit = max(config.cache_size_limit, GRAPHS_A_SIZE * sizes)
    compiled: Callable[..., Tensor] = torch.compile(loss)
    return compiled


def _gradient_norm(parameters: list[nn.Parameter], most: float | None) -> Callable[[], Float[Tensor, ""]]:
    """Return what gives the norm of the whole gradient, and scales the gradient to at most so much."""
    if most is None:
        return lambda: torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    return lambda: torch.nn.utils.clip_grad_norm_(parameters, most, foreach=True)


def _averaging(model: nn.Module, decay: float | None) -> tuple[nn.Module | None, Callable[[], None]]:
    """Return a copy of the model, and what moves its weights towards the model's: average = decay x average + rest."""
    if decay is None:
        return None, lambda: None
    average = copy.deepcopy(model).requires_grad_(False)
    ours, theirs = list(average.parameters()), list(model.parameters())
    buffers = list(zip(average.buffers(), model.buffers(), strict=True))
    move: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def take() -> None:
        move(ours, theirs, None)
        for our_buffer, their_buffer in buffers:
            our_buffer.copy_(their_buffer)

    return average, take
