"""Loss of captioners: how well each token of a caption is predicted."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from losses.chunks import loss_dtype


def caption_losses(
    logits: Float[Tensor, "captions tokens vocabulary"],
    token_ids: Int[Tensor, "captions tokens"],
    lengths: Int[Tensor, " captions"],
) -> Float[Tensor, " captions"]:
    """Return for each caption the mean cross-entropy of its first `lengths` tokens, in nats; later tokens are padding.

    Computed in fp32 or better. The mean over a batch's captions has the weights of Tschannen et al. 2023 (CapPa, arXiv
    2306.07915): google-research/big_vision at 3509c45, `weighted_softmax_xent` of `big_vision/utils.py`.
    """
    logits = logits.to(loss_dtype(logits.dtype))
    losses = F.cross_entropy(logits.flatten(0, 1), token_ids.flatten(), reduction="none")
    place = torch.arange(token_ids.shape[1], device=token_ids.device)
    is_counted = place < lengths[:, None]
    return (losses.view_as(token_ids) * is_counted).sum(1) / lengths
