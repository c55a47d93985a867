"""Chunks of a matrix of logits, and its precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

TILE_SIDE = 2048  # of a square of logits: 16 MiB in fp32
LOGITS_AT_ONCE = 1 << 21  # logits per chunk of rows: 8 MiB in fp32
SOFTPLUS_LINEAR_FROM = 40.0  # from here on softplus(x) equals x in float64


def tile_slices(length: int) -> list[slice]:
    """Return slices of at most `TILE_SIDE` that cut one side of a similarity matrix into square tiles."""
    return consecutive_slices(length, TILE_SIDE)


def row_chunk_slices(num_rows: int, num_columns: int) -> list[slice]:
    """Return slices that cover the rows of a matrix, each of at most `LOGITS_AT_ONCE` logits or of one row."""
    rows_at_once = LOGITS_AT_ONCE // max(num_columns, 1)
    return consecutive_slices(num_rows, max(1, rows_at_once))


def consecutive_slices(length: int, size: int) -> list[slice]:
    """Return slices of `size`, the last perhaps shorter, that cover 0 to `length`."""
    firsts = range(0, length, size)
    return [slice(first, min(first + size, length)) for first in firsts]


def loss_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a loss of inputs of this dtype is computed: fp32 or better."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast, because logits of forward and backward must be equal to the last bit."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
