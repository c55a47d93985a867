"""The loss that trains RangeAugment: the distance of each image's mean squared change to a target that rises.

Source: Mehta et al. 2022, arXiv:2212.10553, equations 2 and 3; apple/corenet at 1aa3acd,
`corenet/loss_fn/neural_augmentation.py`, with the values of `projects/catlip/pretraining/vit_base.yaml`.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from losses import Scalar
from losses.chunks import loss_dtype

FIRST_PSNR = 40.0  # decibels
LAST_PSNR = 20.0  # decibels
WHITE = 255.0  # the largest value of a channel, in which errors are measured
ALPHA = 100.0  # weight of the loss, in units of the largest error


def psnr_loss(
    images: Float[Tensor, "batch 3 height width"],
    augmented: Float[Tensor, "batch 3 height width"],
    target_mse: Scalar,
) -> Scalar:
    """Smooth L1 distance between each image's mean squared change and the target, mean over images.

    Images have values from 0 to 1; errors are in units of 1/255. The loss has no unit: the distance times 100 over the
    largest error. Computed in fp32 or better.
    """
    dtype = loss_dtype(images.dtype)
    changes = (augmented.to(dtype) - images.to(dtype)) * WHITE
    errors = changes.square().mean((1, 2, 3))
    targets = target_mse.to(dtype).expand_as(errors)
    return F.smooth_l1_loss(errors, targets) * (ALPHA / WHITE**2)


def scheduled_target_mse(steps_taken: Scalar, num_steps: int) -> Scalar:
    """Return the target of the mean squared error at a step: it rises from that of 40 dB to that of 20 dB, and stays.

    It follows half a cosine. The cosine is of the mean squared error and not of the PSNR, so that the PSNR falls
    fastest at the beginning.
    """
    first = WHITE**2 / 10 ** (FIRST_PSNR / 10)
    last = WHITE**2 / 10 ** (LAST_PSNR / 10)
    fraction = steps_taken.clamp(max=num_steps) / (num_steps + 1)
    cosine = torch.cos(math.pi * fraction)
    return last + (first - last) * (1 + cosine) / 2
