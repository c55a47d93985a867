"""The tokens of towers: those that are computed in training, and their pooling."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers.patch_dropout import PatchDropoutWithIndices
from timm.models import get_model_args
from torch import Tensor, nn

from models import Features, Images

Pooling = Literal["own", "mean", "both"]
# They may be longer than features that a tower projects.
PatchMeans = Float[Tensor, "batch mean_features"]


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
        drawn = (
            torch.rand(len(x), patches, device=x.device)
            .topk(kept, sorted=False)
            .indices.sort()
            .values
        )
        kept_patches = x[:, first:].gather(1, drawn[..., None].expand(-1, -1, x.shape[2]))
        return torch.cat([x[:, :first], kept_patches], dim=1)


def unwrap_timm_trunk(trunk: nn.Module) -> Any:
    """Return a trunk as its library made it; open_clip wraps timm models."""
    return trunk.trunk if isinstance(trunk, TimmModel) else trunk


def add_patch_drop(trunk: nn.Module, share: float) -> None:
    """Let a vision transformer drop a share of its patches in training; ValueError for a trunk that cannot.

    The stem must be one layer whose patches do not overlap. A deeper stem would compute the dropped patches, and mix
    them into their neighbours. Towers whose position embeddings are rotated in every block get timm's layer, which
    also returns the kept patches.
    """
    vit = unwrap_timm_trunk(trunk)
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    reason = ""
    overlaps = any(convolution.kernel_size != convolution.stride for convolution in convolutions)
    if overlaps or len(convolutions) > 1:
        reason = " with a convolutional stem: the stem computes dropped patches and mixes them into their neighbours"
    elif isinstance(vit, OpenClipViT):
        vit.patch_dropout = PatchDrop(share, prefix_tokens=1)
    elif hasattr(vit, "patch_drop") and hasattr(vit, "num_prefix_tokens"):
        kind = PatchDropoutWithIndices if vit.patch_drop is None else PatchDrop
        vit.patch_drop = kind(share, vit.num_prefix_tokens)
    else:
        reason = ": it is no plain vision transformer"
    if reason:
        raise ValueError(
            f"patches cannot be dropped from a {type(vit).__name__}{reason}; accepted are the vision transformers of "
            "open_clip and timm (VisionTransformer, Eva, NaFlexViT) with patches that do not overlap"
        )


def set_pooling(trunk: nn.Module, name: str, pooling: Pooling) -> None:
    """Let a tower return the mean of its patch tokens after the last norm instead of its own feature.

    Tokens before the patches are not in the mean. The tokens of a convolutional network are the positions of its last
    map. A tower that pools the mean itself is unchanged, with the layers that it has after the mean. With "both" it
    returns its class token if it has one after the last norm, or else its own feature; `feature_and_patch_mean` returns
    the mean, too. Weights keep their names and values; those of a pooling that is replaced are gone. ValueError for a
    trunk that cannot pool so.
    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `VisionTransformer` of `pool_type` "avg".
    """
    vit = unwrap_timm_trunk(trunk)
    try:
        if isinstance(vit, OpenClipViT):
            assert vit.attn_pool is None, "its last norm has the width of its attention pooling"
            vit.pool_type = "avg" if pooling == "mean" else vit.pool_type
        elif isinstance(vit, ModifiedResNet):
            vit.attnpool = (
                vit.attnpool
                if pooling == "both"
                else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            )
        else:
            _set_timm_pooling(trunk, vit, pooling)
    except (AssertionError, TypeError) as error:
        raise ValueError(
            f"pooling={pooling} is for towers of open_clip, and of timm with global_pool=avg, which tower {name!r} "
            f"({type(vit).__name__}) is not: {str(error).rstrip('.')}; choose another, or set pooling=own"
        ) from None


def _set_timm_pooling(trunk: nn.Module, vit: Any, pooling: Pooling) -> None:
    """Set the pooling by timm's `reset_classifier`, which keeps the place of the norm; AssertionError if it cannot."""
    assert hasattr(vit, "forward_head"), "it is of neither library"
    if pooling == "mean":
        counts_prefix = hasattr(vit, "num_prefix_tokens") or getattr(vit, "cls_token", None) is None
        includes_prefix = not counts_prefix or getattr(vit, "pool_include_prefix", False)
        assert not includes_prefix, "its mean includes the tokens before the patches"
        vit.reset_classifier(0, "avg")
        if vit is not trunk:
            trunk.head = nn.Sequential()  # open_clip's attention pooling
    elif has_normed_class_token(vit):
        vit.reset_classifier(0, "token")
    vit.pools_mean = get_model_args(vit).get("global_pool") == "avg"


def has_normed_class_token(vit: Any) -> bool:
    """Return whether a tower of timm normalises its tokens before pooling, a class token among them."""
    has_token = (
        getattr(vit, "cls_token", None) is not None and getattr(vit, "attn_pool", None) is None
    )
    return has_token and not isinstance(getattr(vit, "norm", None), nn.Identity | None)


def feature_and_patch_mean(trunk: nn.Module, images: Images) -> tuple[Features, PatchMeans]:
    """Return the feature of a trunk with the pooling "both", and that which it would return with "mean".

    The trunk computes all tokens. ValueError for a trunk without a single sequence or map of patch tokens.
    Source: hustvl/SuperCLIP at fb59c6d, `SuperCLIP.encode_image_train` of `superclip/open_clip/superclip_model.py`.
    """
    vit = unwrap_timm_trunk(trunk)
    if isinstance(vit, OpenClipViT):
        feature, patches = vit._pool(vit.transformer(vit._embeds(images)))  # noqa: SLF001 - without `output_tokens`
        mean = patches.mean(dim=1)
        return feature, vit.ln_post(mean) if vit.final_ln_after_pool else mean
    if isinstance(vit, ModifiedResNet):
        outputs = vit.forward_intermediates(images, indices=1)
        return outputs["image_features"], outputs["image_intermediates"][-1].mean(dim=(2, 3))
    tokens = vit.forward_features(images)
    feature = vit.forward_head(tokens, pre_logits=True)
    if isinstance(trunk, TimmModel):
        feature = trunk.head(feature)  # open_clip's pooling by attention
    return feature, feature if vit.pools_mean else _spatial_mean(vit, tokens)


def _spatial_mean(vit: Any, tokens: Any) -> PatchMeans:
    """Return the mean over the patches of a sequence of tokens, or over the positions of a map."""
    if isinstance(tokens, Tensor):
        if tokens.ndim == 4:  # noqa: PLR2004 - a map
            return tokens.mean(
                dim=(1, 2) if getattr(vit, "output_fmt", "NCHW") == "NHWC" else (2, 3)
            )
        if hasattr(vit, "num_prefix_tokens"):
            return tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    raise ValueError(
        f"pooling=both needs one sequence or map of patch tokens, and a {type(vit).__name__} has none; choose "
        "another, or set pooling=own"
    )
