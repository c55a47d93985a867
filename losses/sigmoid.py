"""Pair-wise sigmoid loss of SigLIP."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def sigmoid_loss(
    image: Float[Tensor, "batch dim"],
    text: Float[Tensor, "batch dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Binary cross-entropy of every image-text pair: own pairs are positive, all others negative.

    Rows are L2-normalised; a pair's logit is scale * similarity + bias. In nats, summed over the batch's pairs and
    divided by its images. Computed in fp32 or better.
    Source: Zhai et al. 2023, arXiv:2303.15343, equation 1 and algorithm 1.
    """
    logits = scale * image @ text.T + bias
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    sign = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)
