"""A random part of the patches in training."""

import torch
from jaxtyping import Float
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models import unwrap_timm_trunk


class PatchDrop(nn.Module):
    """In training, keep a random part of each image's patches, in their order, and all tokens before them.

    It keeps as many as timm's `PatchDropout`, and draws them by `topk` in place of a sort of all patches.
    Source: Li et al. 2023, "Scaling language-image pre-training via masking" (FLIP, arXiv 2212.00794), section 3.
    """

    def __init__(self, drop_rate: float, num_prefix_tokens: int) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch kept width"]:
        """Drop a share `drop_rate` of the patches; at least one patch remains."""
        if not self.training:
            return x
        first = self.num_prefix_tokens
        num_patches = x.shape[1] - first
        num_kept = max(1, int(num_patches * (1 - self.drop_rate)))
        scores = torch.rand(len(x), num_patches, device=x.device)
        kept_rows = scores.topk(num_kept, sorted=False).indices.sort().values
        width = x.shape[2]
        indices = kept_rows[..., None].expand(-1, -1, width)
        kept_patches = x[:, first:].gather(1, indices)
        return torch.cat([x[:, :first], kept_patches], dim=1)


def add_patch_drop(trunk: nn.Module, drop_rate: float) -> None:
    """Let a vision transformer drop a share of its patches in training; ValueError for a trunk that cannot.

    The stem must be one layer whose patches do not overlap. A deeper stem would compute the dropped patches, and mix
    them into their neighbours.
    """
    vit = unwrap_timm_trunk(trunk)
    if isinstance(vit, OpenClipViT):
        vit.patch_dropout = PatchDrop(drop_rate, num_prefix_tokens=1)
    elif isinstance(vit, TimmViT) and type(vit.patch_embed) is PatchEmbed:
        vit.patch_drop = PatchDrop(drop_rate, vit.num_prefix_tokens)  # type: ignore[assignment]
    else:
        raise ValueError(
            f"patches cannot be dropped from a {type(vit).__name__}; accepted are the VisionTransformers of open_clip "
            "and timm with patches that do not overlap"
        )
