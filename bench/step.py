"""One update of a model: no clock, no log, no branch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.config import Experiment
from bench.data.stream import Batch
from bench.data.targets import Target
from bench.methods import Method

T = TypeVar("T", bound=Target)


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """Forward, backward, update; apart so that a pass of its own can time them apart."""

    forward: Callable[[Batch[T]], Float[Tensor, ""]]
    backward: Callable[[Float[Tensor, ""]], None]
    update: Callable[[float], None]
    optimizer: torch.optim.Optimizer

    def __call__(self, batch: Batch[T], learning_rate: float) -> Float[Tensor, ""]:
        """Update once; the loss stays on the device, for reading it would wait for the step."""
        loss = self.forward(batch)
        self.backward(loss)
        self.update(learning_rate)
        return loss.detach()


def make_step(
    experiment: Experiment, model: nn.Module, method: Method[T], precision: str, *, compiled: bool
) -> Step[T]:
    """Decide once how a model is updated: precision, compilation, optimizer, clipping."""
    device = next(model.parameters()).device
    optimizer = make_optimizer(experiment, model)
    loss_of: Callable[..., Tensor] = torch.compile(method.loss) if compiled else method.loss
    clip = _clipping(list(model.parameters()), experiment.clip_norm)

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def forward(batch: Batch[T]) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            return loss_of(model, batch.images, batch.target)

    def backward(loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def update(learning_rate: float) -> None:
        clip()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        method.after_update(model)

    return Step(forward, backward, update, optimizer)


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


def _clipping(parameters: list[nn.Parameter], norm: float | None) -> Callable[[], object]:
    if norm is None:
        return lambda: None
    return lambda: torch.nn.utils.clip_grad_norm_(parameters, norm, foreach=True)
