"""Softmax loss over subword tokens of SuperClass."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def token_softmax_loss(
    logits: Float[Tensor, "batch tokens"],
    rows: Int[Tensor, " positives"],
    columns: Int[Tensor, " positives"],
    weights: Float[Tensor, " tokens"],
) -> Float[Tensor, ""]:
    """Cross-entropy of a softmax over tokens against the caption's tokens, weighted and L1-normalised.

    Image `rows[i]` has token `columns[i]`, each pair at most once. A token's share of its image's target is its
    weight over the sum of the image's weights; an image whose weights are all 0 adds 0. In nats, mean over images.
    Computed in fp32 or better.
    Source: Huang et al. 2024, arXiv:2411.03313, equation 3; `ClsLoss` of x-cls/superclass, opencls/open_clip/loss.py.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weight = weights[columns].to(logits.dtype)
    total = torch.zeros(len(logits), dtype=logits.dtype, device=logits.device).index_add(0, rows, weight)
    share = weight / total[rows].clamp_min(torch.finfo(logits.dtype).tiny)
    return -(F.log_softmax(logits, dim=1)[rows, columns] * share).sum() / len(logits)


def inverse_document_frequency(
    images_with_token: Float[Tensor, " tokens"],
    images: Float[Tensor, ""],
) -> Float[Tensor, " tokens"]:
    """Weight of each token: log((N + 1) / (df + 1)), N the images seen so far, df those whose caption has it.

    A token in every caption weighs 0. Source: arXiv:2411.03313, equation 2, smoothed as the released code does.
    """
    return torch.log((images + 1) / (images_with_token + 1))
