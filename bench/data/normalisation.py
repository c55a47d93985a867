"""Normalisation of images with open_clip's mean and standard deviation."""

from functools import cache

import torch
from jaxtyping import Float
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

WHITE = 255.0


def normalise(rgb: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Normalise images of range 0 to 1."""
    mean, std = _mean_and_std(rgb.device)
    return (rgb - mean) / std


@cache
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation on a device, copied once."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return mean.to(device), std.to(device)
