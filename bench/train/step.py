"""One update of a model, without clock, log or copy from the device."""

import copy
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.config import Experiment
from bench.data.stream import Batch
from bench.data.targets import Target
from bench.methods import Method, simulated_group
from bench.train.attention import use_attention_kernel
from bench.train.distributed import ModelWithLoss, all_reduce_mean, parallelize, split_by_sharding, total_norm
from losses.collectives import Group

T = TypeVar("T", bound=Target)


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """Forward, backward and update, separate so that a separate pass can time each.

    `update` returns the loss. On the device, it skips an update whose loss or gradient is not finite, and returns NaN.
    Over several processes, an update that is not finite on one is skipped on all, and the loss is their mean. A skipped
    update keeps parameters and moments; the moving average and the token counts include the step.
    """

    forward: Callable[[Batch[T]], Float[Tensor, ""]]
    backward: Callable[[Float[Tensor, ""]], None]
    update: Callable[[Float[Tensor, ""], float], Float[Tensor, ""]]
    optimizer: torch.optim.Optimizer
    num_micro_batches: int  # number of micro-batches, whose gradients are summed
    ema: nn.Module | None  # the model with the moving average of the weights; None: no average

    def __call__(self, batch: Batch[T], learning_rate: float) -> Float[Tensor, ""]:
        """Update once; the loss stays on the device, because reading it would wait for the step."""
        losses = []
        for part in batch.micro_batches(self.num_micro_batches):
            loss = self.forward(part)
            self.backward(loss)
            losses.append(loss.detach())
        return self.update(torch.stack(losses).mean(), learning_rate)


def make_step(
    experiment: Experiment,
    model: nn.Module,
    method: Method[T],
    precision: str,
    *,
    compiled: bool,
    group: Group = None,
) -> Step[T]:
    """Build the step of a model: precision, compilation, processes, optimizer, clipping, averaging."""
    device = next(model.parameters()).device
    whole = ModelWithLoss(model, method.loss, group, simulated_group(experiment))
    loss_of = parallelize(whole, experiment, precision, compiled=compiled)
    optimizer = make_optimizer(experiment, model)
    norm_of_gradient = make_gradient_clipper(list(model.parameters()), experiment.clip_norm)
    ema, update_ema = make_ema(model, experiment.ema_decay)

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def forward(batch: Batch[T]) -> Tensor:
        with autocast(), use_attention_kernel(experiment.attention):
            return cast("Tensor", loss_of(batch.images, batch.target))

    def backward(loss: Tensor) -> None:
        with use_attention_kernel(experiment.attention):  # checkpointed blocks are recomputed
            (loss / experiment.accumulation).backward()  # type: ignore[no-untyped-call]

    def update(loss: Tensor, learning_rate: float) -> Tensor:
        whole = all_reduce_mean(loss.detach(), group)
        finite = whole.isfinite() & norm_of_gradient().isfinite()
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined] # GradScaler's flag for fused optimizers
        for parameters in optimizer.param_groups:
            parameters["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_update(model)
        update_ema()
        return torch.where(finite, whole, math.nan)

    return Step(forward, backward, update, optimizer, experiment.accumulation, ema)


def make_optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.AdamW:
    """Return fused AdamW (on a CPU nine times as fast as the default) without weight decay on vectors and scalars."""
    return torch.optim.AdamW(
        weight_decay_groups(parameter for parameter in model.parameters() if parameter.requires_grad),
        lr=experiment.learning_rate,
        betas=experiment.betas,
        eps=experiment.eps,
        weight_decay=experiment.weight_decay,
        fused=True,
    )


def weight_decay_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Return an optimizer's parameter groups: matrices, and vectors and scalars, which have no weight decay.

    Biases, norms, class embedding, scale and bias of the logits have fewer than two dimensions: open_clip_train's rule.
    """
    rows = list(parameters)
    matrices = split_by_sharding(parameter for parameter in rows if parameter.ndim >= 2)  # noqa: PLR2004
    vectors = split_by_sharding(parameter for parameter in rows if parameter.ndim < 2)  # noqa: PLR2004
    groups: list[dict[str, Any]] = [{"params": one} for one in matrices]
    return groups + [{"params": one, "weight_decay": 0.0} for one in vectors]


def make_gradient_clipper(parameters: list[nn.Parameter], most: float | None) -> Callable[[], Float[Tensor, ""]]:
    """Return a function that returns the norm of the whole gradient and clips the gradient to `most`."""
    kinds = split_by_sharding(parameters)

    def norm() -> Tensor:
        gradients = ([parameter.grad for parameter in kind if parameter.grad is not None] for kind in kinds)
        return total_norm(torch.nn.utils.get_total_norm(kind, foreach=True) for kind in gradients)

    if most is None:
        return norm

    def clipped() -> Tensor:
        whole = norm()
        for kind in kinds:
            torch.nn.utils.clip_grads_with_norm_(kind, most, whole, foreach=True)
        return whole

    return clipped


def make_ema(model: nn.Module, decay: float | None) -> tuple[nn.Module | None, Callable[[], None]]:
    """Return a copy of the model and a function that updates it: average = decay * average + (1 - decay) * weight."""
    if decay is None:
        return None, lambda: None
    frozen = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    average = copy.deepcopy(model, frozen)
    ours, theirs = ([parameter for parameter in of.parameters() if parameter.requires_grad] for of in (average, model))
    average.requires_grad_(requires_grad=False)
    buffers = list(zip(average.buffers(), model.buffers(), strict=True))
    move: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def take() -> None:
        move(ours, theirs, None)
        for our_buffer, their_buffer in buffers:
            our_buffer.copy_(their_buffer)

    return average, take
