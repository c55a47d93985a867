"""Rows of the global batch on all processes, for losses in which every image meets every caption.

`group` is the processes that share a batch, each with equally many rows; None is this process alone. These are parts of
hand-written gradients: none of them is followed by autograd.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

Group = dist.ProcessGroup | None


def place(group: Group) -> tuple[int, int]:
    """Return this process's number in the group, and how many there are."""
    return (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))


def gathered(own: Float[Tensor, "rows dim"], group: Group) -> Float[Tensor, "all_rows dim"]:
    """Return the rows of all processes, in their order."""
    if group is None:
        return own
    ranks = dist.get_world_size(group)
    rows = own.new_empty(ranks * len(own), own.shape[1])
    dist.all_gather(list(rows.chunk(ranks)), own.contiguous(), group)
    return rows


def own_sum(rows: Float[Tensor, "all_rows dim"], group: Group) -> Float[Tensor, "rows dim"]:
    """Sum over the processes and return this one's rows: what `gathered` is backwards."""
    if group is None:
        return rows
    of_ranks = list(rows.chunk(dist.get_world_size(group)))
    own = torch.empty_like(of_ranks[0])
    dist.reduce_scatter(own, of_ranks, group=group)
    return own


def summed(value: Float[Tensor, "*shape"], group: Group) -> Float[Tensor, "*shape"]:
    """Sum over the processes, in place."""
    if group is not None:
        dist.all_reduce(value, group=group)
    return value


def log_summed(log: Float[Tensor, " columns"], group: Group) -> Float[Tensor, " columns"]:
    """Sum over the processes what is given as logarithms, in their range."""
    if group is None:
        return log
    largest = log.clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX, group)
    return largest + summed((log - largest).exp(), group).log()
