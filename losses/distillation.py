"""Distillation loss to a teacher's features."""

import torch.nn.functional as F

from losses import Features, Scalar
from losses.chunks import loss_dtype


def cosine_loss(student: Features, teacher: Features) -> Scalar:
    """Return 1 minus the cosine between student's and teacher's features, from 0 to 2, mean over images.

    Computed in fp32 or better, also under autocast. The teacher gets no gradient.
    Source: Wei et al. 2022, arXiv:2205.14141, feature distillation of whole images. They compare whitened features of
    all tokens by smooth L1; here the pooled features are compared by their cosine.
    """
    dtype = loss_dtype(student.dtype)
    fixed_teacher = teacher.detach().to(dtype)
    cosines = F.cosine_similarity(student.to(dtype), fixed_teacher)
    return 1 - cosines.mean()
