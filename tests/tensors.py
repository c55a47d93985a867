"""The tensors of a target."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


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
