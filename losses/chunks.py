"""A matrix of logits looked at piece by piece, in full precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

SIDE = 2048  # of a square of logits: 16 MiB in fp32
LOGITS_AT_ONCE = 1 << 21  # where logits are looked at one by one: 8 MiB in fp32
LINEAR_FROM = 40.0  # softplus(x) is x from here on, to the last bit of a float64


def sides(count: int) -> list[slice]:
    """Cut the side of a matrix of products: squares need fewer inputs for as many products than rows do."""
    return _cut(count, SIDE)


def chunks(rows: int, columns: int) -> list[slice]:
    """Cut a matrix into rows: `LOGITS_AT_ONCE` logits or one row at once."""
    return _cut(rows, max(1, LOGITS_AT_ONCE // max(columns, 1)))


def _cut(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type that a loss is computed in: fp32 or better."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Keep matrix products in the type of their inputs: forward and recomputed logits must agree to the last bit."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
