"""Exact nearest neighbours by cosine, in blocks of bounded size."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 2**24  # cosines, or normalised features, in memory at once
RESOLUTION = 2**31  # steps per unit of the cosine; a sort key has as many bits again for the row


def predictions(
    bank: Float[Tensor, "bank features"],
    labels: Int[Tensor, " bank"],
    queries: Float[Tensor, "queries features"],
    ks: Sequence[int],
    num_classes: int,
) -> Int[Tensor, "ks queries"]:
    """Return the majority class of each query's k nearest neighbours, for several k.

    Neighbours whose cosines differ by less than 2 ** -31 are in the order of the bank's rows. Of classes with equally
    many votes the one with the nearest neighbour wins.
    """
    found = [
        torch.stack([_majority(labels[nearest[:, :k]], num_classes) for k in ks])
        for nearest in _nearest(bank, queries, max(ks), BLOCK)
    ]
    return torch.cat(found, dim=1)


def _nearest(
    bank: Float[Tensor, "bank features"], queries: Float[Tensor, "queries features"], k: int, block: int
) -> Iterator[Int[Tensor, "_ k"]]:
    """Yield the rows of the k nearest neighbours, nearest first, for a block of queries at a time."""
    bank = torch.nn.functional.normalize(bank.double())
    order = torch.arange(len(bank), 0, -1, device=bank.device)  # of equal cosines the first row has the largest key
    for some in torch.split(queries, max(1, block // max(bank.shape))):
        cosines = torch.nn.functional.normalize(some.double()) @ bank.T
        keys = cosines.mul_(RESOLUTION).round_().long().mul_(RESOLUTION).add_(order)
        yield keys.topk(k, dim=1).indices


def _majority(neighbours: Int[Tensor, "queries k"], num_classes: int) -> Int[Tensor, " queries"]:
    """Return the commonest class of each row; of equally common classes the first in the row."""
    queries, k = neighbours.shape
    votes = neighbours.new_zeros(queries, num_classes)
    votes.scatter_add_(1, neighbours, torch.full_like(neighbours, k))
    ranks = torch.arange(k, 0, -1, device=neighbours.device).expand(queries, k)
    first = neighbours.new_zeros(queries, num_classes).scatter_reduce_(1, neighbours, ranks, "amax")
    return (votes + first).argmax(1)
