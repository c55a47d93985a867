"""The loss that trains RangeAugment: the distance of each image's mean squared change to a target that rises.

Source: Mehta et al. 2022, arXiv:2212.10553, equations 2 and 3; apple/corenet at 1aa3acd,
`corenet/loss_fn/neural_augmentation.py`, with the values of `projects/catlip/pretraining/vit_base.yaml`.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from losses.chunks import loss_dtype

FIRST_PSNR = 40.0  # decibels
LAST_PSNR = 20.0  # decibels
WHITE = 255.0  # the largest value of a channel, in which errors are measured
ALPHA = 100.0  # weight of the loss, in units of the largest error


def psnr_loss(
    images: Float[Tensor, "batch 3 height width"],
    augmented: Float[Tensor, "batch 3 height width"],
    target_error: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Smooth L1 distance between each image's mean squared change and its target, mean over images.

    Images have values from 0 to 1; errors are in units of 1/255. The loss has no unit: the distance times 100 over the
    largest error. Computed in fp32 or better.
    """
    dtype = loss_dtype(images.dtype)
    errors = ((augmented.to(dtype) - images.to(dtype)) * WHITE).square().mean((1, 2, 3))
    return F.smooth_l1_loss(errors, target_error.to(dtype).expand_as(errors)) * (ALPHA / WHITE**2)


def scheduled_error(steps_taken: Float[Tensor, ""], num_steps: int) -> Float[Tensor, ""]:
    """Return the target of a step: half a cosine between the errors of 40 and of 20 dB, then the last.

    The cosine is of the mean squared error and not of the PSNR, so that the PSNR falls fastest at the beginning.
    """
    first = WHITE**2 / 10 ** (FIRST_PSNR / 10)
    last = WHITE**2 / 10 ** (LAST_PSNR / 10)
    done = steps_taken.clamp(max=num_steps) / (num_steps + 1)
    return last + (first - last) * (1 + torch.cos(math.pi * done)) / 2
