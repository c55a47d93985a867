"""Rows of the global batch on all processes, for losses in which every image meets every caption.

`group` is the processes that share a batch, each with equally many rows; None is this process alone. These are parts of
hand-written gradients: none of them is followed by autograd.
"""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Alike:
    """Processes that there are not: each would have the rows of this one, so that what all would send is known here.

    A loss does the work that it does beside so many processes, and nothing is exchanged.
    """

    ranks: int


Group = dist.ProcessGroup | None
Meeting = Group | Alike


def place(group: Meeting) -> tuple[int, int]:
    """Return this process's number in the group, and how many there are."""
    if isinstance(group, Alike):
        return 0, group.ranks
    return (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))


def gathered(own: Float[Tensor, "rows dim"], group: Meeting) -> Float[Tensor, "all_rows dim"]:
    """Return the rows of all processes, in their order."""
    if group is None:
        return own
    if isinstance(group, Alike):
        return own.repeat(group.ranks, 1)
    ranks = dist.get_world_size(group)
    rows = own.new_empty(ranks * len(own), own.shape[1])
    dist.all_gather(list(rows.chunk(ranks)), own.contiguous(), group)
    return rows


def own_sum(rows: Float[Tensor, "all_rows dim"], group: Meeting) -> Float[Tensor, "rows dim"]:
    """Sum over the processes and return this one's rows: what `gathered` is backwards."""
    if group is None:
        return rows
    if isinstance(group, Alike):  # what another has for these rows, this one has for the other's
        return rows.view(group.ranks, -1, rows.shape[1]).sum(0)
    of_ranks = list(rows.chunk(dist.get_world_size(group)))
    own = torch.empty_like(of_ranks[0])
    dist.reduce_scatter(own, of_ranks, group=group)
    return own


def summed(value: Float[Tensor, "*shape"], group: Meeting) -> Float[Tensor, "*shape"]:
    """Sum over the processes, in place."""
    if isinstance(group, Alike):
        return value.mul_(group.ranks)
    if group is not None:
        dist.all_reduce(value, group=group)
    return value


def log_summed(log: Float[Tensor, " columns"], group: Meeting) -> Float[Tensor, " columns"]:
    """Sum over the processes what is given as logarithms, in their range."""
    if group is None:
        return log
    if isinstance(group, Alike):
        return log + math.log(group.ranks)
    largest = log.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group)
    return largest + summed((log - largest).exp(), group).log()
