"""The tensors of a target, and the comparison of two computations."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


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
