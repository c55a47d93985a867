"""Collectives for losses over all pairs of images and captions of the global batch.

`group` is the process group that shares a batch, with equally many rows on each rank; None is a single process. The
functions are parts of hand-written gradients; autograd differentiates only `all_gather_with_gradient`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# The collectives of one tensor, because lists break a compiled graph. From torch 2.13 on, the old names warn.
_all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_reduce_scatter = getattr(dist, "reduce_scatter_single", dist.reduce_scatter_tensor)


@dataclass(frozen=True, slots=True)
class SimulatedGroup:
    """A simulated process group whose ranks all hold the same rows.

    A loss computes as much as in a group of this size, without communication.
    """

    world_size: int


ProcessGroupOrNone = dist.ProcessGroup | None
ProcessGroupLike = ProcessGroupOrNone | SimulatedGroup


def rank_and_world_size(group: ProcessGroupLike) -> tuple[int, int]:
    """Return the rank of this process and the size of the group."""
    if isinstance(group, SimulatedGroup):
        return 0, group.world_size
    if group is None:
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def draw_local_rows(
    draw: Callable[..., Tensor], shape: Sequence[int], group: ProcessGroupLike, **options: Any
) -> Tensor:
    """Draw random numbers for the rows of all ranks, and return this rank's, of the given shape.

    All ranks together then have the numbers that a single process with all rows draws, because their generators are
    equal. `draw` is called with the shape of all rows and the options, as `torch.rand` with `device` and `generator`.
    """
    rank, world_size = rank_and_world_size(group)
    num_rows, *row_shape = shape
    all_rows = draw((world_size * num_rows, *row_shape), **options)
    return all_rows[rank * num_rows : (rank + 1) * num_rows]


def all_gather(
    local_rows: Float[Tensor, "rows dim"], group: ProcessGroupLike
) -> Float[Tensor, "all_rows dim"]:
    """Return the rows of all ranks, in the order of the ranks."""
    if group is None:
        return local_rows
    if isinstance(group, SimulatedGroup):
        return local_rows.repeat(group.world_size, 1)
    num_rows, dim = local_rows.shape
    rows = local_rows.new_empty(dist.get_world_size(group) * num_rows, dim)
    _all_gather(rows, local_rows.contiguous(), group)
    return rows


def reduce_scatter(
    rows: Float[Tensor, "all_rows dim"], group: ProcessGroupLike
) -> Float[Tensor, "rows dim"]:
    """Sum over the ranks and return this rank's rows (reduce-scatter): the backward of `all_gather`."""
    if group is None:
        return rows
    num_rows, dim = rows.shape
    if isinstance(group, SimulatedGroup):
        # By symmetry, this rank's values for another rank's rows equal that rank's values for this rank's rows.
        return rows.view(group.world_size, -1, dim).sum(0)
    num_local_rows = num_rows // dist.get_world_size(group)
    local_rows = rows.new_empty(num_local_rows, dim)
    _reduce_scatter(local_rows, rows.contiguous(), group=group)
    return local_rows


def all_gather_with_gradient(
    local_rows: Float[Tensor, "rows dim"], group: ProcessGroupLike
) -> Float[Tensor, "all_rows dim"]:
    """Return the rows of all ranks, in their order; the gradient of this rank's rows is the sum over the ranks."""
    rows: Tensor = _AllGather.apply(local_rows, group)  # type: ignore[no-untyped-call, unused-ignore]
    return rows


class _AllGather(torch.autograd.Function):
    """An all-gather whose backward is a reduce-scatter."""

    @staticmethod
    def forward(ctx: Any, local_rows: Tensor, group: ProcessGroupLike) -> Tensor:
        ctx.group = group
        return all_gather(local_rows, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return reduce_scatter(gradient, ctx.group), None


def all_reduce_sum_(
    value: Float[Tensor, "*shape"], group: ProcessGroupLike
) -> Float[Tensor, "*shape"]:
    """Replace the values by their sums over the ranks, and return them."""
    if isinstance(group, SimulatedGroup):
        return value.mul_(group.world_size)
    if group is not None:
        dist.all_reduce(value, group=group)
    return value


def all_reduce_logsumexp(
    logs: Float[Tensor, " columns"], group: ProcessGroupLike
) -> Float[Tensor, " columns"]:
    """Return log(sum over ranks of exp(logs)) for each column, without overflow."""
    if group is None:
        return logs
    if isinstance(group, SimulatedGroup):
        return logs + math.log(group.world_size)
    largest = logs.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group)
    shares = (logs - largest).exp()
    return largest + all_reduce_sum_(shares, group).log()
