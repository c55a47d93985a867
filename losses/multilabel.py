"""Multi-label classification loss of CatLIP."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def multilabel_loss(
    logits: Float[Tensor, "batch labels"],
    rows: Int[Tensor, " positives"],
    columns: Int[Tensor, " positives"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy against a multi-hot target that is never built, summed over labels, averaged over images.

    Image `rows[i]` has label `columns[i]`, each pair at most once (a multi-hot target holds a label once). An image
    without labels still enters the sum, all labels negative. In nats: the sum of softplus over all logits minus the
    positives' logits, which is the binary cross-entropy term by term. Computed in fp32 or better.
    Source: Mehta et al. 2024, arXiv:2404.15653, section 3; reduction `batch_mean` of apple/corenet projects/catlip.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (-F.logsigmoid(-logits).sum() - logits[rows, columns].sum()) / len(logits)
