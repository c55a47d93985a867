"""Collectives for losses over all pairs of images and captions of the global batch.

`group` is the process group that shares a batch, with equally many rows on each rank; None is a single process. The
functions are parts of hand-written gradients, and autograd does not differentiate them.
"""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Alike:
    """A simulated process group whose ranks all hold the same rows.

    A loss computes as much as in a group of this size, without communication.
    """

    ranks: int


Group = dist.ProcessGroup | None
Meeting = Group | Alike


def place(group: Meeting) -> tuple[int, int]:
    """Return the rank of this process and the size of the group."""
    if isinstance(group, Alike):
        return 0, group.ranks
    return (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))


def gathered(own: Float[Tensor, "rows dim"], group: Meeting) -> Float[Tensor, "all_rows dim"]:
    """Return the rows of all ranks, in order (all-gather)."""
    if group is None:
        return own
    if isinstance(group, Alike):
        return own.repeat(group.ranks, 1)
    ranks = dist.get_world_size(group)
    rows = own.new_empty(ranks * len(own), own.shape[1])
    dist.all_gather(list(rows.chunk(ranks)), own.contiguous(), group)
    return rows


def own_sum(rows: Float[Tensor, "all_rows dim"], group: Meeting) -> Float[Tensor, "rows dim"]:
    """Sum over the ranks and return this rank's rows (reduce-scatter): the backward of `gathered`."""
    if group is None:
        return rows
    if isinstance(group, Alike):  # by symmetry, this rank's values for other rows are the others' for its own
        return rows.view(group.ranks, -1, rows.shape[1]).sum(0)
    of_ranks = list(rows.chunk(dist.get_world_size(group)))
    own = torch.empty_like(of_ranks[0])
    dist.reduce_scatter(own, of_ranks, group=group)
    return own


def summed(value: Float[Tensor, "*shape"], group: Meeting) -> Float[Tensor, "*shape"]:
    """Sum over the ranks, in place (all-reduce)."""
    if isinstance(group, Alike):
        return value.mul_(group.ranks)
    if group is not None:
        dist.all_reduce(value, group=group)
    return value


def log_summed(log: Float[Tensor, " columns"], group: Meeting) -> Float[Tensor, " columns"]:
    """Return the logarithm of the sum over ranks of exp(log), without overflow."""
    if group is None:
        return log
    if isinstance(group, Alike):
        return log + math.log(group.ranks)
    largest = log.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group)
    return largest + summed((log - largest).exp(), group).log()
