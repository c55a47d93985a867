"""The exponential moving average of a model's weights, which is what is scored."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.experiment.fields import EmaKernel


def make_ema_and_update_function(
    model: nn.Module, decay: float | None, kernel: EmaKernel = "foreach"
) -> tuple[nn.Module | None, Callable[[], None]]:
    """Return a copy of the model for its moving average, and a function that updates it from the model's weights.

    average = decay * average + (1 - decay) * weight. Without `decay` there is no copy, and the function does nothing.

    Buffers are copied, and frozen parameters shared. The results of the kernels are equal to rounding: "for_loop" takes
    four kernels for each tensor. Source: apple/corenet at 1aa3acd, `corenet/modeling/misc/averaging_utils.py`,
    `EMA.update_parameters`, which also averages buffers.
    """
    if decay is None:
        return None, lambda: None
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    frozen = {id(value): value for value in model.parameters() if not value.requires_grad}
    average_model = copy.deepcopy(model, frozen)
    average_model.requires_grad_(requires_grad=False)
    averages = [average_model.get_parameter(name) for name in trained]
    weights = list(trained.values())
    buffers = list(zip(average_model.buffers(), model.buffers(), strict=True))
    update_all: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update() -> None:
        """Average the weights, and copy the buffers."""
        if kernel == "foreach":
            update_all(averages, weights, None)
        else:
            for average, weight in zip(averages, weights, strict=True):
                _update_average(average, weight, decay)
        for average_buffer, buffer in buffers:
            average_buffer.copy_(buffer)

    return average_model, update


def _update_average(average: Tensor, weight: Tensor, decay: float) -> None:
    average.copy_(average * decay + (1 - decay) * weight)
