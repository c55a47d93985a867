"""Contrastive loss of CLIP."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses import Features, Scalar
from losses.chunks import loss_dtype, tile_slices, without_autocast
from losses.collectives import (
    ProcessGroupLike,
    all_gather,
    all_gather_with_gradient,
    all_reduce_logsumexp,
    all_reduce_sum_,
    rank_and_world_size,
    reduce_scatter,
)


def contrastive_loss(
    image_features: Features,
    text_features: Features,
    scale: Scalar,
    group: ProcessGroupLike = None,
    *,
    in_autocast: bool = False,
    gathers_images: bool = False,
) -> Scalar:
    """Cross-entropy over the batch's similarity matrix, rows and columns averaged.

    Row i of `image_features` belongs with row i of `text_features`; all other rows are its negatives. Rows are
    L2-normalised; `scale` is the inverse temperature. In nats, mean over the batch. Computed in fp32 or better, also
    under autocast. Source: Radford et al. 2021, arXiv:2103.00020, figure 3.

    With `in_autocast`, products of matrices have autocast's dtype where autocast is enabled, all else fp32 or better.
    Source: open_clip 3.3.0, `open_clip/loss.py`, ClipLoss, and apple/corenet at 1aa3acd,
    `corenet/loss_fn/multi_modal_img_text/contrastive_loss_clip.py`, which run under autocast.

    The matrix is never stored: memory is O(batch x chunk), and the backward recomputes the logits, so that a step costs
    four products of batch x batch x dim, where six are usual.

    With a `group`, the batch is the global batch of its ranks. Each rank returns the loss of the global batch; its
    gradients are multiplied by the number of ranks, so that their mean over ranks, which DDP and FSDP compute, is the
    gradient of the global batch. Captions are all-gathered, images are not.

    With `gathers_images` both are, and the loss is computed as open_clip and CoreNet do: each rank compares its images
    with all captions and its captions with all images, stores both matrices, and a step costs six products. Value and
    gradients are the same. Sources as above; open_clip has it as `local_loss` with `gather_with_grad`.
    """
    product_dtype = loss_dtype(image_features.dtype)
    device = image_features.device.type
    may_be_in_autocast = in_autocast and torch.amp.is_autocast_available(device)
    if may_be_in_autocast and torch.is_autocast_enabled(device):
        product_dtype = torch.get_autocast_dtype(device)
    if gathers_images:
        return _loss_with_both_gathered(image_features, text_features, scale, group, product_dtype)
    loss: Tensor = _Contrastive.apply(image_features, text_features, scale, group, product_dtype)  # type: ignore[no-untyped-call, unused-ignore]
    return loss


def _loss_with_both_gathered(
    image: Tensor, text: Tensor, scale: Tensor, group: ProcessGroupLike, product_dtype: torch.dtype
) -> Tensor:
    """Return `contrastive_loss` as open_clip and CoreNet compute it, with the gradients of this rank's rows."""
    rank, ranks = rank_and_world_size(group)
    num_rows = len(image)
    first = rank * num_rows
    with without_autocast(image.device):
        all_images = all_gather_with_gradient(image, group).to(product_dtype)
        all_texts = all_gather_with_gradient(text, group).to(product_dtype)
        labels = torch.arange(first, first + num_rows, device=image.device)
        narrow_image = image.to(product_dtype)
        narrow_text = text.to(product_dtype)
        logits_per_image = scale * (narrow_image @ all_texts.T)
        logits_per_text = scale * (narrow_text @ all_images.T)
        dtype = loss_dtype(image.dtype)
        by_image = F.cross_entropy(logits_per_image.to(dtype), labels)
        by_text = F.cross_entropy(logits_per_text.to(dtype), labels)
        loss = (by_image + by_text) / 2
        mean = all_reduce_sum_(loss.detach().clone(), group) / ranks
    # The value of the global batch, the gradient of these rows.
    return loss + (mean - loss.detach())


class _Contrastive(torch.autograd.Function):
    """`contrastive_loss` from tiles of logits, which the backward computes again."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        group: ProcessGroupLike,
        product_dtype: torch.dtype,
    ) -> Tensor:
        rank, ranks = rank_and_world_size(group)
        dtype = loss_dtype(image.dtype)
        num_rows = len(image)
        first = rank * num_rows
        with without_autocast(image.device):
            columns = all_gather(text, group).to(product_dtype)
            batch = len(columns)
            row_logsumexp = columns.new_full((num_rows,), -torch.inf, dtype=dtype)
            column_logsumexp = columns.new_full((batch,), -torch.inf, dtype=dtype)
            pairs = columns.new_zeros((), dtype=dtype)
            for i in tile_slices(num_rows):
                rows = (image[i].to(dtype) * scale).to(product_dtype)
                partners = columns[first + i.start : first + i.stop].to(dtype)
                pairs += torch.vdot(rows.to(dtype).flatten(), partners.flatten())
                for j in tile_slices(batch):
                    logits = (rows @ columns[j].T).to(dtype)
                    by_row = logits.logsumexp(1)
                    by_column = logits.logsumexp(0)
                    row_logsumexp[i] = torch.logaddexp(row_logsumexp[i], by_row)
                    column_logsumexp[j] = torch.logaddexp(column_logsumexp[j], by_column)
            column_logsumexp = all_reduce_logsumexp(column_logsumexp, group)
            partner_logsumexp = column_logsumexp[first : first + num_rows]
            normalisers = (row_logsumexp + partner_logsumexp).sum()
            loss = normalisers / 2 - pairs
        saved_text = text if group is None else columns
        ctx.save_for_backward(image, saved_text, scale, row_logsumexp, column_logsumexp)
        ctx.group = group
        ctx.first = first
        ctx.factor = ranks / (2 * batch)
        ctx.text_dtype = text.dtype
        ctx.product_dtype = product_dtype
        return all_reduce_sum_(loss, group) / batch

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        image, columns, scale, row_logsumexp, column_logsumexp = ctx.saved_tensors
        dtype = loss_dtype(image.dtype)
        product_dtype = ctx.product_dtype
        is_narrow = product_dtype != dtype
        factor = gradient.to(dtype) * ctx.factor
        with without_autocast(image.device):
            columns = columns.to(product_dtype)
            grad_rows = torch.zeros_like(image, dtype=dtype)
            grad_columns = torch.zeros_like(columns, dtype=dtype)
            grad_scale = columns.new_zeros((), dtype=dtype)
            for i in tile_slices(len(image)):
                unscaled = image[i].to(dtype)
                rows = (unscaled * scale).to(product_dtype)
                for j in tile_slices(len(columns)):
                    logits = (rows @ columns[j].T).to(dtype)
                    share = (logits - row_logsumexp[i, None]).exp_()  # softmax over the row
                    share += logits.sub_(column_logsumexp[j]).exp_()  # plus softmax over the column
                    positives = share.diagonal(ctx.first + i.start - j.start)
                    positives.sub_(2)
                    if is_narrow:
                        # The factor holds fp16's scale, so that small shares do not become 0.
                        share = share.mul_(factor).to(product_dtype)
                    _add_product(grad_rows[i], share, columns[j])
                    _add_product(grad_columns[j], share.T, rows)
                grad_slice = grad_rows[i].flatten()
                grad_scale += torch.vdot(grad_slice, unscaled.flatten())
            if is_narrow:
                factor = torch.ones_like(factor)  # the shares have it already
            grad_image = grad_rows.mul_(scale * factor).to(image.dtype)
            grad_text = reduce_scatter(grad_columns, ctx.group).mul_(factor)
            grad_scale = (grad_scale * factor).to(scale.dtype)
        return grad_image, grad_text.to(ctx.text_dtype), grad_scale, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, in place; their dtype may be narrower than the dtype of `total`."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
