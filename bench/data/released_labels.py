"""CatLIP's labels as its released code has them: as dense rows."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from bench.data.targets import BatchRows, LabelPairs, NoTextMixin, to_device_async


@dataclass(frozen=True, slots=True)
class DenseLabels(NoTextMixin):
    """Labels as dense rows of 0 and 1, one per caption of a batch, as wide as the classification head."""

    labels: LabelPairs
    width: int
    # None: a data set, whose rows are made batch by batch.
    values: Int[Tensor, "captions labels"] | None = None

    def select(self, rows: BatchRows) -> "DenseLabels":
        if self.values is not None:
            selected = self.values[to_device_async(rows, self.values.device)]
            return DenseLabels(self.labels, self.width, selected)
        labels = self.labels.select(rows)
        return DenseLabels(labels, self.width, make_multi_hot(labels, self.width))

    def to(self, device: torch.device) -> "DenseLabels":
        assert self.values is not None
        return DenseLabels(self.labels, self.width, to_device_async(self.values, device))


def make_multi_hot(labels: LabelPairs, num_labels: int) -> Int[Tensor, "captions labels"]:
    """Return rows of int64, built one by one and stacked, as CatLIP's released data loader makes them.

    Source: apple/corenet at 1aa3acd, `corenet/data/datasets/classification/wordnet_tagged_classification.py`.
    """
    rows = []
    for first, last in pairwise(labels.starts.tolist()):
        row = torch.zeros(num_labels, dtype=torch.int64)
        row[labels.columns[first:last]] = 1
        rows.append(row)
    return torch.stack(rows)
