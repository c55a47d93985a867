"""Loss of captioners: how well each token of a caption is predicted."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from losses import Scalar
from losses.chunks import consecutive_slices, loss_dtype

TOKENS_AT_ONCE = 512  # 100 MB of logits in fp32 with CLIP's vocabulary
GRADIENT_SCALE = 256.0  # in the forward, so that small gradients do not become 0 in fp16


def summed_caption_loss(
    features: Float[Tensor, "captions tokens width"],
    weight: Float[Tensor, "vocabulary width"],
    bias: Float[Tensor, " vocabulary"],
    token_ids: Int[Tensor, "captions tokens"],
    lengths: Int[Tensor, " captions"],
) -> Scalar:
    """Return the sum over captions of the mean cross-entropy of their first `lengths` tokens, in nats.

    A token's logits are weight @ feature + bias, in autocast's dtype where it is enabled; all else is computed in fp32
    or better. Later tokens are padding. The mean over a batch's captions has the weights of Tschannen et al. 2023
    (CapPa, arXiv 2306.07915): google-research/big_vision at 3509c45, `weighted_softmax_xent` of `big_vision/utils.py`.

    The logits of all tokens are never stored. If gradients are required, the forward computes them for each chunk of
    tokens, and the backward scales them. Without gradients it has the FLOPs of the forward alone, which are counted.
    """
    place = torch.arange(token_ids.shape[1], device=token_ids.device)
    is_counted = place < lengths[:, None]
    shares = is_counted / lengths[:, None].to(loss_dtype(features.dtype))
    tokens = (features.flatten(0, 1), token_ids.flatten(), shares.flatten())
    loss: Tensor = _CaptionCrossEntropy.apply(*tokens, weight, bias, torch.is_grad_enabled())  # type: ignore[no-untyped-call, unused-ignore]
    return loss


class _CaptionCrossEntropy(torch.autograd.Function):
    """Sum of the tokens' cross-entropies, each times its share; the gradients are computed in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        token_ids: Tensor,
        shares: Tensor,
        weight: Tensor,
        bias: Tensor,
        needs_grad: bool,
    ) -> Tensor:
        loss = shares.new_zeros(())
        grad_features = torch.empty_like(features)
        # In fp32 or better, so that sums over chunks are.
        head = [
            value.detach().to(shares.dtype).requires_grad_(needs_grad) for value in (weight, bias)
        ]
        for chunk in consecutive_slices(len(features), TOKENS_AT_ONCE):
            inputs = features[chunk].detach().requires_grad_(needs_grad)
            with torch.set_grad_enabled(needs_grad):
                logits = F.linear(inputs, *head).to(shares.dtype)
                losses = F.cross_entropy(logits, token_ids[chunk], reduction="none")
                chunk_loss = (losses * shares[chunk]).sum()
            if needs_grad:
                chunk_loss.backward(torch.full_like(chunk_loss, GRADIENT_SCALE))  # type: ignore[no-untyped-call]
                grad_features[chunk] = inputs.grad  # type: ignore[assignment]
            loss += chunk_loss.detach()
        ctx.save_for_backward(grad_features, *[value.grad for value in head])
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradient / GRADIENT_SCALE
        grad_features, *grad_head = [saved * factor for saved in ctx.saved_tensors]
        return grad_features, None, None, *grad_head, None
