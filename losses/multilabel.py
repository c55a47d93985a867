"""Multi-label classification loss of CatLIP."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses import Scalar
from losses.chunks import SOFTPLUS_LINEAR_FROM, loss_dtype, row_chunk_slices


def multilabel_loss(
    logits: Float[Tensor, "batch labels"],
    rows: Int[Tensor, " positives"],
    columns: Int[Tensor, " positives"],
) -> Scalar:
    """Binary cross-entropy against a multi-hot target, which is never built; summed over labels, mean over images.

    Image `rows[i]` has label `columns[i]`, each pair at most once. An image without labels counts with all labels
    negative. In nats: the sum of softplus over all logits minus the positives' logits, which is the binary
    cross-entropy term by term. Computed in fp32 or better.
    Source: Mehta et al. 2024, arXiv:2404.15653, section 3; reduction `batch_mean` of apple/corenet projects/catlip.

    Only the logits are stored for the backward; the gradient is the sigmoid, minus 1 at the positives.
    """
    loss: Tensor = _Multilabel.apply(logits, rows, columns)  # type: ignore[no-untyped-call, unused-ignore]
    return loss


def dense_multilabel_loss(
    logits: Float[Tensor, "batch labels"], target: Int[Tensor, "batch labels"]
) -> Scalar:
    """Return the value of `multilabel_loss` from a multi-hot target, which is cast to the dtype of the logits.

    In nats, summed over labels, mean over images; in the precision of the logits, or fp32 under autocast, as in the
    released code. Source: apple/corenet at 1aa3acd, `corenet/loss_fn/classification/binary_cross_entropy.py`.
    """
    dense = target.to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, dense, reduction="sum")
    return loss / len(logits)


class _Multilabel(torch.autograd.Function):
    """`multilabel_loss` in chunks of rows: the backward needs the logits alone, no target and no fp32 copy of them."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        dtype = loss_dtype(logits.dtype)
        loss = -logits[rows, columns].sum(dtype=dtype)
        for chunk in row_chunk_slices(*logits.shape):
            chunk_logits = logits[chunk].to(dtype)
            loss += F.softplus(chunk_logits, threshold=SOFTPLUS_LINEAR_FROM).sum()
        ctx.save_for_backward(logits, rows, columns)
        return loss / len(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logits, rows, columns = ctx.saved_tensors
        share = gradient / len(logits)
        grad_logits = torch.empty_like(logits)
        for chunk in row_chunk_slices(*logits.shape):
            torch.mul(logits[chunk].to(share.dtype).sigmoid(), share, out=grad_logits[chunk])
        probabilities = logits[rows, columns].to(share.dtype).sigmoid()
        positives = (probabilities - 1) * share
        grad_logits.index_put_((rows, columns), positives.to(logits.dtype))
        return grad_logits, None, None
