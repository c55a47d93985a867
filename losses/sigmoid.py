"""Pair-wise sigmoid loss of SigLIP."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses import Features, Scalar
from losses.chunks import SOFTPLUS_LINEAR_FROM, loss_dtype, tile_slices, without_autocast
from losses.collectives import (
    ProcessGroupLike,
    all_gather,
    all_reduce_sum_,
    rank_and_world_size,
    reduce_scatter,
)


def sigmoid_loss(
    image_features: Features,
    text_features: Features,
    scale: Scalar,
    bias: Scalar,
    group: ProcessGroupLike = None,
) -> Scalar:
    """Binary cross-entropy of every image-text pair: own pairs are positive, all others negative.

    Rows are L2-normalised; a pair's logit is scale * similarity + bias. In nats, summed over the batch's pairs and
    divided by its images. Computed in fp32 or better, also under autocast.
    Source: Zhai et al. 2023, arXiv:2303.15343, equation 1 and algorithm 1.

    The matrix is never stored: memory is O(batch x chunk). The gradient of a pair does not depend on other pairs. If
    gradients are enabled, the forward therefore computes them from each chunk's logits, and the backward scales them.
    Without gradients it has the FLOPs of the forward alone, which are counted.

    With a `group`, the batch is the global batch of its ranks, with value and gradients as in `contrastive_loss`.
    """
    features = (image_features, text_features)
    loss: Tensor = _Sigmoid.apply(*features, scale, bias, group, torch.is_grad_enabled())  # type: ignore[no-untyped-call, unused-ignore]
    return loss


class _Sigmoid(torch.autograd.Function):
    """`sigmoid_loss` from tiles of logits, from which the forward also computes the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        bias: Tensor,
        group: ProcessGroupLike,
        needs_grad: bool,
    ) -> Tensor:
        rank, ranks = rank_and_world_size(group)
        dtype = loss_dtype(image.dtype)
        num_rows = len(image)
        first = rank * num_rows
        with without_autocast(image.device):
            columns = all_gather(text, group).to(dtype)
            batch = len(columns)
            loss = columns.new_zeros(())
            grad_scale = columns.new_zeros(())
            grad_bias = columns.new_zeros(())
            if needs_grad:
                grad_rows = torch.zeros_like(image, dtype=dtype)
                grad_columns = torch.zeros_like(columns)
            for i in tile_slices(num_rows):
                unscaled = image[i].to(dtype)
                rows = unscaled * scale
                for j in tile_slices(batch):
                    logits = torch.addmm(bias.to(dtype), rows, columns[j].T)
                    positives = logits.diagonal(first + i.start - j.start)
                    positives.neg_()  # the loss falls with positives and rises with negatives
                    loss += F.softplus(logits, threshold=SOFTPLUS_LINEAR_FROM).sum()
                    if needs_grad:
                        logits.sigmoid_()
                        positives.neg_()
                        grad_bias += logits.sum()
                        grad_rows[i].addmm_(logits, columns[j])
                        grad_columns[j].addmm_(logits.T, rows)
                if needs_grad:
                    grad_scale += torch.vdot(grad_rows[i].flatten(), unscaled.flatten())
            if needs_grad:
                factor = ranks / batch
                ctx.save_for_backward(
                    grad_rows.mul_(scale * factor).to(image.dtype),
                    reduce_scatter(grad_columns, group).mul_(factor).to(text.dtype),
                    (grad_scale * factor).to(scale.dtype),
                    (grad_bias * factor).to(bias.dtype),
                )
            return all_reduce_sum_(loss, group) / batch

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [saved * gradient.to(saved.dtype) for saved in ctx.saved_tensors]
        return *gradients, None, None
