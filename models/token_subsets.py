"""The tokens of vision transformers: those that are computed in training, and their pooling."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models import Features, Images

TIMM_VITS = TimmViT, Eva
Pooling = Literal["own", "mean", "both"]


class PatchDrop(nn.Module):
    """In training, keep a random part of each image's patches, in their order, and all tokens before them.

    Source: Li et al. 2023, "Scaling language-image pre-training via masking" (FLIP, arXiv 2212.00794), section 3.
    """

    def __init__(self, share: float, prefix_tokens: int) -> None:
        super().__init__()
        self.share = share
        self.prefix_tokens = prefix_tokens

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch kept width"]:
        """Drop `share` of the patches; at least one patch remains."""
        if not self.training:
            return x
        first = self.prefix_tokens
        patches = x.shape[1] - first
        kept = max(1, int(patches * (1 - self.share)))
        drawn = torch.rand(len(x), patches, device=x.device).topk(kept, sorted=False).indices.sort().values
        some = x[:, first:].gather(1, drawn[..., None].expand(-1, -1, x.shape[2]))
        return torch.cat([x[:, :first], some], dim=1)


def add_patch_drop(trunk: nn.Module, share: float) -> None:
    """Let a vision transformer drop a share of its patches in training; ValueError for a trunk that cannot.

    The stem must be one convolution whose patches do not overlap. A deeper stem would compute the dropped patches, and
    mix them into their neighbours.
    """
    transformer: Any = getattr(trunk, "trunk", trunk)  # open_clip wraps timm models
    kind = type(transformer)
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) != 1 or convolutions[0].kernel_size != convolutions[0].stride:
        raise ValueError(
            f"patches cannot be dropped from a {kind.__name__} with a convolutional stem: "
            "the stem computes dropped patches and mixes them into their neighbours"
        )
    if kind is OpenClipViT:
        transformer.patch_dropout = PatchDrop(share, prefix_tokens=1)
    elif kind is TimmViT:
        transformer.patch_drop = PatchDrop(share, transformer.num_prefix_tokens)
    else:
        raise ValueError(f"patches cannot be dropped from a {kind.__name__}: it is no plain vision transformer")


def set_pooling(trunk: nn.Module, name: str, pooling: Pooling) -> None:
    """Let a vision transformer return the mean of its patch tokens after the last norm instead of its class token.

    With "both" it still returns the class token, and `feature_and_patch_mean` returns both. The class token is not in
    the mean. Weights keep their names and values. ValueError for a trunk without a class token, or without a norm
    before its pooling.
    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `VisionTransformer` of `pool_type` "avg".
    """
    vit: Any = trunk
    if type(vit) is OpenClipViT and vit.pool_type == "tok" and vit.attn_pool is None:
        vit.pool_type = "avg" if pooling == "mean" else "tok"
    elif type(vit) in TIMM_VITS and has_normed_class_token(vit):
        vit.global_pool = "avg" if pooling == "mean" else "token"
    else:
        kind = type(getattr(vit, "trunk", vit)).__name__  # open_clip wraps timm models
        raise ValueError(
            f"pooling={pooling} is for a VisionTransformer of open_clip or timm, or an Eva of timm, with a class token "
            f"and a norm before the pooling, which tower {name!r} ({kind}) is not: choose another, or set pooling=own"
        )


def has_normed_class_token(vit: Any) -> bool:
    """Return whether a vision transformer of timm normalises its tokens before pooling, a class token among them."""
    return vit.cls_token is not None and vit.attn_pool is None and not isinstance(vit.norm, nn.Identity)


def feature_and_patch_mean(trunk: nn.Module, images: Images) -> tuple[Features, Features]:
    """Return the trunk's feature, and the mean of its patch tokens after the last norm; the trunk computes all tokens.

    Source: hustvl/SuperCLIP at fb59c6d, `SuperCLIP.encode_image_train` of `superclip/open_clip/superclip_model.py`.
    """
    vit: Any = trunk
    if isinstance(vit, TIMM_VITS):
        tokens = vit.forward_features(images)
        return vit.forward_head(tokens), tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    feature, patches = vit._pool(vit.transformer(vit._embeds(images)))  # noqa: SLF001 - without `output_tokens`
    return feature, patches.mean(dim=1)
