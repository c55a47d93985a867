"""Contrastive loss of CLIP."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def contrastive_loss(
    image: Float[Tensor, "batch dim"],
    text: Float[Tensor, "batch dim"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Cross-entropy over the batch's similarity matrix, rows and columns averaged.

    Row i of `image` belongs with row i of `text`; all other rows are its negatives. Rows are L2-normalised;
    `scale` is the inverse temperature. In nats, mean over the batch. Computed in fp32 or better.
    Source: Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    logits = scale * image @ text.T
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
