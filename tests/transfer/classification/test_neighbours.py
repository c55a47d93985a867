"""k-NN equals what a loop over all neighbours answers, and holds no more than a block."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.transfer.classification import probe
from bench.transfer.classification.probe import MAX_COSINES, LabelledFeatures, predict_by_neighbours

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)


def predictions(bank: Tensor, labels: Tensor, queries: Tensor, ks: Sequence[int]) -> Tensor:
    predict = predict_by_neighbours(LabelledFeatures(bank, labels), queries)
    return torch.stack([predict(k).classes for k in ks])


def by_hand(bank: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int) -> int:
    cosines = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in bank]
    order = sorted(range(len(bank)), key=lambda row: (-round(cosines[row], 9), row))[:k]
    votes = Counter(int(labels[row]) for row in order)
    tied = [label for label, count in votes.items() if count == max(votes.values())]
    return next(int(labels[row]) for row in order if labels[row] in tied)


@pytest.mark.parametrize("block", [MAX_COSINES, 40, 1])
@laws
@given(
    seed=st.integers(0, 10**6),
    bank=st.integers(3, 30),
    classes=st.integers(1, 4),
    coarse=st.booleans(),
)
def test_predictions_equal_a_naive_loop(
    block: int, seed: int, bank: int, classes: int, coarse: bool
) -> None:
    """Coarse features have equal cosines and equal votes; blocks of one cosine are as good as one block."""
    draw = np.random.default_rng(seed)
    features, queries = (draw.normal(size=(rows, 3)) for rows in (bank, 7))
    if coarse:
        features, queries = (np.sign(found).round() for found in (features, queries))
    labels, ks = draw.integers(0, classes, bank), (1, 2, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "MAX_COSINES", block)
        found = predictions(*map(torch.from_numpy, (features, labels, queries)), ks)
    assert found.tolist() == [
        [by_hand(features, labels, query, k) for query in queries] for k in ks
    ]


class Largest(TorchDispatchMode):
    """Notes the elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        provenance = func(*args, **kwargs or {})
        sizes = [leaf.numel() for leaf in tree_leaves(provenance) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *sizes])
        return provenance


def test_fifty_thousand_queries_use_bounded_memory() -> None:
    draw = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(400, 512, generator=draw), torch.randn(50_000, 512, generator=draw)
    with Largest() as largest:
        found = predictions(bank, torch.arange(400) % 10, queries, (1, 20))
    assert found.shape == (2, 50_000)
    assert largest.elements <= MAX_COSINES
    assert MAX_COSINES < 50_000 * 400
