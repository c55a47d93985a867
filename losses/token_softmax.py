"""Softmax loss over subword tokens of SuperClass."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses import Scalar
from losses.chunks import loss_dtype, row_chunk_slices


def token_softmax_loss(
    logits: Float[Tensor, "batch tokens"],
    rows: Int[Tensor, " positives"],
    columns: Int[Tensor, " positives"],
    weights: Float[Tensor, " tokens"],
) -> Scalar:
    """Cross-entropy of a softmax over tokens against the caption's tokens, weighted and L1-normalised.

    Image `rows[i]` has token `columns[i]`, each pair at most once. A token's share of its image's target is its
    weight over the sum of the image's weights; an image whose weights are all 0 adds 0. In nats, mean over images.
    Computed in fp32 or better.
    Source: Huang et al. 2024, arXiv:2411.03313, equation 3; `ClsLoss` of x-cls/superclass, opencls/open_clip/loss.py.

    Only the logits, one number per row and one per pair are stored for the backward.
    """
    dtype = loss_dtype(logits.dtype)
    weight = weights[columns].to(dtype)
    total_by_row = torch.zeros(len(logits), dtype=dtype, device=logits.device)
    total_by_row.index_add_(0, rows, weight)
    smallest = torch.finfo(dtype).tiny  # where all weights of an image are 0
    share = weight / total_by_row[rows].clamp_min(smallest)
    loss: Tensor = _TokenSoftmax.apply(logits, rows, columns, share)  # type: ignore[no-untyped-call, unused-ignore]
    return loss


class _TokenSoftmax(torch.autograd.Function):
    """Cross-entropy against a target of index pairs; `share` sums to 1 over a row's pairs, or to 0."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: Tensor, columns: Tensor, share: Tensor) -> Tensor:
        norms = share.new_empty(len(logits))
        for chunk in row_chunk_slices(*logits.shape):
            chunk_logits = logits[chunk].to(share.dtype)
            norms[chunk] = chunk_logits.logsumexp(1)
        ctx.save_for_backward(logits, rows, columns, share, norms)
        negative_log_softmax = norms[rows] - logits[rows, columns]
        loss = (negative_log_softmax * share).sum()
        return loss / len(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        logits, rows, columns, share, norms = ctx.saved_tensors
        dtype = norms.dtype
        factor = gradient / len(logits)
        row_factor = torch.zeros_like(norms).index_add_(0, rows, share)  # 1, or 0
        row_factor *= factor
        grad_logits = torch.empty_like(logits)
        for chunk in row_chunk_slices(*logits.shape):
            chunk_logits = logits[chunk].to(dtype)
            softmax = (chunk_logits - norms[chunk, None]).exp_()
            grad_logits[chunk] = softmax.mul_(row_factor[chunk, None])
        # The positives are computed again, to subtract their share before the rounding to narrow logits.
        pair_logits = logits[rows, columns].to(dtype)
        softmax = (pair_logits - norms[rows]).exp()
        positives = softmax * row_factor[rows] - share * factor
        grad_logits.index_put_((rows, columns), positives.to(logits.dtype))
        return grad_logits, None, None, None


def inverse_document_frequency(
    images_with_token: Float[Tensor, " tokens"], images_seen: Scalar
) -> Float[Tensor, " tokens"]:
    """Return each token's weight log((N + 1) / (df + 1)); N counts the images seen, df those with the token.

    A token in every caption has weight 0. Source: arXiv:2411.03313, equation 2, smoothed as the released code does.
    """
    return torch.log((images_seen + 1) / (images_with_token + 1))
