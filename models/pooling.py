"""The pooling of a tower's tokens to the feature of an image."""

from typing import Any, Literal

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

from models import Features, Images, unwrap_timm_trunk

Pooling = Literal["own", "mean", "both"]


def set_pooling(trunk: nn.Module, name: str, pooling: Literal["mean", "both"]) -> None:
    """Let a trunk pool to the mean of its patch tokens after the last norm, or with "both" to its class token.

    With "both", `feature_and_patch_mean` returns the mean, too. Tokens before the patches are not in the mean. The
    tokens of a convolutional network are the positions of its last map. Weights keep their names and values; the
    weights of a replaced pooling are removed. ValueError for a trunk that does not support the pooling; `name` is the
    tower's name in its message.
    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `VisionTransformer` of `pool_type` "avg".
    """
    vit = unwrap_timm_trunk(trunk)
    reason = _reason_against_pooling(vit, pooling)
    if not reason and isinstance(vit, OpenClipViT):
        if pooling == "mean":
            vit.pool_type = "avg"
        return
    if not reason:
        try:
            vit.reset_classifier(0, "token" if pooling == "both" else "avg")
        except (AssertionError, TypeError) as error:  # timm's answer where there is no such pooling
            reason = str(error).rstrip(".")
    if reason:
        raise ValueError(
            f"pooling={pooling} is not for tower {name!r} ({type(vit).__name__}): {reason}; choose another, or set "
            "pooling=own"
        )
    if isinstance(trunk, TimmModel):
        trunk.head = nn.Sequential()  # open_clip's attention pooling


def _reason_against_pooling(vit: Any, pooling: Literal["mean", "both"]) -> str:
    """Return why the model under a trunk does not support a pooling; empty if it may."""
    if isinstance(vit, OpenClipViT):
        if vit.attn_pool is not None:
            return "it pools by attention before its last norm"
        return "its own pooling is the mean" if pooling == "both" and vit.pool_type == "avg" else ""
    if not hasattr(vit, "reset_classifier"):
        return "its pooling is fixed"
    if pooling == "both":
        return "" if _has_normed_class_token(vit) else "it has no class token after its last norm"
    if getattr(vit, "cls_token", None) is None:
        return ""
    mean_skips_prefix = hasattr(vit, "num_prefix_tokens") and not getattr(
        vit, "pool_include_prefix", False
    )
    return "" if mean_skips_prefix else "its mean includes the class token"


def _has_normed_class_token(vit: Any) -> bool:
    """Return whether a timm tower takes its class token after the last norm."""
    has_token = isinstance(vit, TimmViT | Eva) and vit.cls_token is not None
    pools_attention = getattr(vit, "attn_pool", None) is not None
    return has_token and not pools_attention and not isinstance(vit.norm, nn.Identity)


def feature_and_patch_mean(trunk: nn.Module, images: Images) -> tuple[Features, Features]:
    """Return the class token of a trunk with the pooling "both", and the feature that it would have with "mean".

    Source: hustvl/SuperCLIP at fb59c6d, `SuperCLIP.encode_image_train` of `superclip/open_clip/superclip_model.py`.
    """
    vit = unwrap_timm_trunk(trunk)
    if isinstance(vit, OpenClipViT):
        # `forward` returns the patch tokens only with `output_tokens`, which changes what it returns elsewhere.
        tokens = vit.transformer(vit._embeds(images))  # noqa: SLF001
        feature, patches = vit._pool(tokens)  # noqa: SLF001
        mean = patches.mean(dim=1)
        if vit.final_ln_after_pool:
            mean = vit.ln_post(mean)
        return feature, mean
    tokens = vit.forward_features(images)
    feature = vit.forward_head(tokens, pre_logits=True)
    return feature, tokens[:, vit.num_prefix_tokens :].mean(dim=1)
