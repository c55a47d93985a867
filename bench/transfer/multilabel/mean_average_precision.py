"""Mean average precision over the classes of a multi-label task, by torchmetrics."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torchmetrics.functional.classification import multilabel_average_precision

from bench.transfer.tasks.multi_label_tasks import MultiLabelPart

UNJUDGED = -1


@dataclass(frozen=True, slots=True)
class MeanAveragePrecision:
    """Three means over the classes, as CatLIP reports them: scikit-learn's "macro", "micro" and "weighted"."""

    macro: float  # over the classes that some picture shows
    weighted: float  # the same, by how many pictures show them
    micro: float  # of all pairs of picture and class in one row
    without_positives: tuple[int, ...]  # classes that have no average precision


def mean_average_precision(scores: Float[np.ndarray, "pictures classes"], part: MultiLabelPart) -> MeanAveragePrecision:
    """Return the mean average precisions of scores, of which the order alone matters; unjudged pairs are left out.

    ValueError where a score is not finite, or no picture shows any class.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    shown = part.labels.any(axis=0)
    if not shown.any():
        raise ValueError("no picture shows any class")
    # Ranks, for torchmetrics puts what is outside of [0, 1] through a sigmoid, where large scores become equal.
    ranks = np.unique(scores, return_inverse=True)[1].reshape(scores.shape)
    predicted = torch.from_numpy(ranks / max(1, ranks.max()))
    target = torch.from_numpy(np.where(part.unjudged, UNJUDGED, part.labels))

    def mean(average: Literal["macro", "weighted", "micro"], columns: np.ndarray) -> float:
        return float(
            multilabel_average_precision(
                predicted[:, columns], target[:, columns], len(columns), average, ignore_index=UNJUDGED
            )
        )

    with_positives = np.flatnonzero(shown)
    return MeanAveragePrecision(
        macro=mean("macro", with_positives),
        weighted=mean("weighted", with_positives),
        micro=mean("micro", np.arange(scores.shape[1])),
        without_positives=tuple(np.flatnonzero(~shown).tolist()),
    )
