"""Towers that were trained on pixels normalised otherwise than here."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn


class Renormalised(nn.Module):
    """Images normalised as here (open_clip's mean and deviation) to images normalised by another mean and deviation.

    Is no part of a tower's weights.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        ours, theirs = map(_columns, (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)), map(_columns, (mean, std))
        (our_mean, our_std), (their_mean, their_std) = ours, theirs
        self.register_buffer("scale", our_std / their_std, persistent=False)
        self.register_buffer("shift", (our_mean - their_mean) / their_std, persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Return the same images."""
        return images * self.scale + self.shift


def renormalised(mean: Sequence[float], std: Sequence[float]) -> Renormalised | None:
    """Return what a tower of this mean and deviation needs; None where they are those of here."""
    is_ours = tuple(mean) == OPENAI_DATASET_MEAN and tuple(std) == OPENAI_DATASET_STD
    return None if is_ours else Renormalised(mean, std)


def _columns(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
