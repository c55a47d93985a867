"""Conversion between normalisations of pixels, for towers that were trained elsewhere."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn


class Renormalised(nn.Module):
    """Convert images from open_clip's mean and deviation, which this project uses, to another mean and deviation.

    Its buffers are not saved with a tower.
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
        return images * self.scale + self.shift


def renormalised(mean: Sequence[float], std: Sequence[float]) -> Renormalised | None:
    """Return the conversion to this mean and deviation, or None if they are this project's."""
    is_ours = tuple(mean) == OPENAI_DATASET_MEAN and tuple(std) == OPENAI_DATASET_STD
    return None if is_ours else Renormalised(mean, std)


def _columns(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)
