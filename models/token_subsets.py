"""The tokens of towers: those that are computed in training, and their pooling."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers.patch_embed import PatchEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models import Features, Images

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
        num_patches = x.shape[1] - first
        num_kept = max(1, int(num_patches * (1 - self.share)))
        scores = torch.rand(len(x), num_patches, device=x.device)
        kept_rows = scores.topk(num_kept, sorted=False).indices.sort().values
        indices = kept_rows[..., None].expand(-1, -1, x.shape[2])
        kept_patches = x[:, first:].gather(1, indices)
        return torch.cat([x[:, :first], kept_patches], dim=1)


def unwrap_timm_trunk(trunk: nn.Module) -> Any:
    """Return a trunk as its library made it; open_clip wraps timm models."""
    return trunk.trunk if isinstance(trunk, TimmModel) else trunk


def add_patch_drop(trunk: nn.Module, share: float) -> None:
    """Let a vision transformer drop a share of its patches in training; ValueError for a trunk that cannot.

    The stem must be one layer whose patches do not overlap. A deeper stem would compute the dropped patches, and mix
    them into their neighbours.
    """
    vit = unwrap_timm_trunk(trunk)
    if isinstance(vit, OpenClipViT):
        vit.patch_dropout = PatchDrop(share, prefix_tokens=1)
    elif isinstance(vit, TimmViT) and type(vit.patch_embed) is PatchEmbed:
        vit.patch_drop = PatchDrop(share, vit.num_prefix_tokens)  # type: ignore[assignment]
    else:
        raise ValueError(
            f"patches cannot be dropped from a {type(vit).__name__}; accepted are the VisionTransformers of open_clip "
            "and timm with patches that do not overlap"
        )


def set_pooling(trunk: nn.Module, name: str, pooling: Pooling) -> None:
    """Let a tower return the mean of its patch tokens after the last norm instead of its own feature.

    Tokens before the patches are not in the mean. The tokens of a convolutional network are the positions of its last
    map. With "both" a vision transformer returns its class token; `feature_and_patch_mean` returns the mean, too.
    Weights keep their names and values; the weights of a replaced pooling are removed. ValueError for a trunk that
    does not support the pooling.
    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `VisionTransformer` of `pool_type` "avg".
    """
    vit = unwrap_timm_trunk(trunk)
    try:
        if isinstance(vit, OpenClipViT):
            assert vit.attn_pool is None, "it pools by attention before its last norm"
            vit.pool_type = "avg" if pooling == "mean" else vit.pool_type
            return
        assert hasattr(vit, "reset_classifier"), "its pooling is fixed"
        if pooling == "both":
            assert _has_normed_class_token(vit), "it has no class token after its last norm"
        elif getattr(vit, "cls_token", None) is not None:
            includes_prefix = getattr(vit, "pool_include_prefix", False)
            is_left_out = hasattr(vit, "num_prefix_tokens") and not includes_prefix
            assert is_left_out, "its mean includes the class token"
        vit.reset_classifier(0, "token" if pooling == "both" else "avg")
        if isinstance(trunk, TimmModel):
            trunk.head = nn.Sequential()  # open_clip's attention pooling
    except (AssertionError, TypeError) as error:
        raise ValueError(
            f"pooling={pooling} is not for tower {name!r} ({type(vit).__name__}): {str(error).rstrip('.')}; choose "
            "another, or set pooling=own"
        ) from None


def _has_normed_class_token(vit: Any) -> bool:
    """Return whether a tower of timm has one sequence of tokens that it normalises before it takes the class token."""
    has_token = isinstance(vit, TimmViT | Eva) and vit.cls_token is not None
    pools_attention = getattr(vit, "attn_pool", None) is not None
    return has_token and not pools_attention and not isinstance(vit.norm, nn.Identity)


def feature_and_patch_mean(trunk: nn.Module, images: Images) -> tuple[Features, Features]:
    """Return the feature of a trunk with the pooling "both", and the feature that it would have with "mean".

    Source: hustvl/SuperCLIP at fb59c6d, `SuperCLIP.encode_image_train` of `superclip/open_clip/superclip_model.py`.
    """
    vit = unwrap_timm_trunk(trunk)
    if isinstance(vit, OpenClipViT):
        feature, patches = vit._pool(vit.transformer(vit._embeds(images)))  # noqa: SLF001 - without `output_tokens`
        mean = patches.mean(dim=1)
        if vit.final_ln_after_pool:
            mean = vit.ln_post(mean)
        return feature, mean
    tokens = vit.forward_features(images)
    feature = vit.forward_head(tokens, pre_logits=True)
    return feature, tokens[:, vit.num_prefix_tokens :].mean(dim=1)
