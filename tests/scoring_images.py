"""Images as a tower is given them when it is scored."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.stream import composite_and_normalise


def eval_transform(pixels: Tensor, side: int) -> Tensor:
    """Scale whole images with premultiplied alpha, put them on white, normalise."""
    rgba = F.interpolate(pixels.float(), (side, side), mode="bilinear", antialias=True)
    return composite_and_normalise(rgba, torch.ones(1, 3, 1, 1, device=pixels.device))
