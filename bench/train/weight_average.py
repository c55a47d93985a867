"""The exponential moving average of a model's weights, which is what is scored."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bench.experiment.fields import EmaKernel


def make_ema(
    model: nn.Module, decay: float | None, kernel: EmaKernel = "foreach"
) -> tuple[nn.Module | None, Callable[[], None]]:
    """Return a copy of the model and a function that updates it: average = decay * average + (1 - decay) * weight.

    Buffers are copied, and frozen parameters shared. The results of the kernels are equal to rounding.
    """
    if decay is None:
        return None, lambda: None
    frozen = {
        id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad
    }
    average = copy.deepcopy(model, frozen)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    average.requires_grad_(requires_grad=False)
    update = _per_tensor_ema_update if kernel == "for_loop" else _foreach_ema_update
    return average, update(average, model, trained, decay)


def _foreach_ema_update(
    average: nn.Module, model: nn.Module, trained: set[str], decay: float
) -> Callable[[], None]:
    averages, weights = (
        [parameter for name, parameter in module.named_parameters() if name in trained]
        for module in (average, model)
    )
    buffers = list(zip(average.buffers(), model.buffers(), strict=True))
    update_parameters: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update() -> None:
        update_parameters(averages, weights, None)
        for average_buffer, buffer in buffers:
            average_buffer.copy_(buffer)

    return update


def _per_tensor_ema_update(
    average: nn.Module, model: nn.Module, trained: set[str], decay: float
) -> Callable[[], None]:
    """Update tensor by tensor of the state, with four kernels for each.

    Source: apple/corenet at 1aa3acd, `corenet/modeling/misc/averaging_utils.py`, `EMA.update_parameters`, which also
    averages buffers.
    """
    buffers = {name for name, _ in model.named_buffers()}

    @torch.no_grad()
    def update() -> None:
        weights = model.state_dict()
        for name, value in average.state_dict().items():
            if name in trained:
                _average_one(value, weights[name], decay)
            elif name in buffers:
                value.copy_(weights[name])

    return update


def _average_one(average: Tensor, weight: Tensor, decay: float) -> None:
    average.copy_(average * decay + (1 - decay) * weight)
