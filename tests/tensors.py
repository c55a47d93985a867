"""The tensors of a target, and the comparison of two computations."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def assert_equal_with_gradients(*computed: tuple[Tensor, Iterable[Tensor]]) -> None:
    """Outputs, and the gradients of their inputs for random ones of the outputs, are equal to float64's last digits."""
    outputs, inputs = zip(*computed, strict=True)
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(outputs[0])
    gradients = (
        torch.autograd.grad(one, [*of], weights) for one, of in zip(outputs, inputs, strict=True)
    )
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def differing(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that only one side has, or that are not equal to the last bit."""
    common = found.keys() & expected.keys()
    unequal = [name for name in common if not torch.equal(found[name], expected[name])]
    return sorted(found.keys() ^ expected.keys()) + sorted(unequal)


def tensors_of(target: Any) -> Iterator[Tensor]:
    """Yield the tensors of a target, those of its parts included."""
    if isinstance(target, Tensor):
        yield target
    elif isinstance(target, tuple):
        for one in target:
            yield from tensors_of(one)
    elif is_dataclass(target):
        for field in fields(target):
            yield from tensors_of(getattr(target, field.name))


class OperationNames(TorchDispatchMode):
    """Collects the names of all operations, and whether attention might use cuDNN's kernel on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.with_cudnn: set[bool] = set()

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.seen.add(name)
        if "attention" in name:
            self.with_cudnn.add(torch.backends.cuda.cudnn_sdp_enabled())
        return func(*args, **(kwargs or {}))
