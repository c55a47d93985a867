"""The pooling of a tower's tokens to the feature of an image."""

from typing import Any, Literal

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

from models import Features, Images, unwrap_timm_trunk

Pooling = Literal["tower", "mean", "mean_for_classifier"]


def set_pooling(
    trunk: nn.Module, name: str, pooling: Literal["mean", "mean_for_classifier"]
) -> None:
    """Let a trunk pool to the mean of its patch tokens after the last norm, or to its class token.

    To the class token with "mean_for_classifier"; `pool_to_class_token_and_patch_mean` then returns the mean, too.
    Tokens before patches are not in it. The tokens of a convolutional network are the positions of its last map.
    Weights keep their names and values; the weights of a replaced pooling are removed. ValueError for a trunk that does
    not support the pooling; `name` is the tower's name in its message.
    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `VisionTransformer` of `pool_type` "avg".
    """
    vit = unwrap_timm_trunk(trunk)
    try:
        if isinstance(vit, OpenClipViT):
            _set_open_clip_pooling(vit, pooling)
        else:
            _set_timm_pooling(vit, pooling)
    except (ValueError, AssertionError, TypeError) as error:  # the last two are timm's
        reason = str(error).rstrip(".")
        raise ValueError(
            f"pooling={pooling} is not for tower {name!r} ({type(vit).__name__}): {reason}; choose another, or set "
            "pooling=tower"
        ) from None
    if isinstance(trunk, TimmModel):
        trunk.head = nn.Sequential()  # open_clip's attention pooling


def _set_open_clip_pooling(
    vit: OpenClipViT, pooling: Literal["mean", "mean_for_classifier"]
) -> None:
    """Set the pooling of open_clip's vision transformer; the ValueError says why it cannot be set."""
    if vit.attn_pool is not None:
        raise ValueError("it pools by attention before its last norm")
    if pooling == "mean":
        vit.pool_type = "avg"
    elif vit.pool_type == "avg":
        raise ValueError("its own pooling is the mean")


def _set_timm_pooling(vit: Any, pooling: Literal["mean", "mean_for_classifier"]) -> None:
    """Set the pooling of a timm model; the ValueError says why it cannot be set."""
    if not hasattr(vit, "reset_classifier"):
        raise ValueError("its pooling is fixed")
    if pooling == "mean_for_classifier":
        if not _has_normed_class_token(vit):
            raise ValueError("it has no class token after its last norm")
        vit.reset_classifier(0, "token")
        return
    has_class_token = getattr(vit, "cls_token", None) is not None
    knows_prefix = hasattr(vit, "num_prefix_tokens")
    mean_has_prefix = not knows_prefix or getattr(vit, "pool_include_prefix", False)
    if has_class_token and mean_has_prefix:
        raise ValueError("its mean includes the class token")
    vit.reset_classifier(0, "avg")


def _has_normed_class_token(vit: Any) -> bool:
    """Return whether a timm tower takes its class token after the last norm."""
    has_token = isinstance(vit, TimmViT | Eva) and vit.cls_token is not None
    pools_attention = getattr(vit, "attn_pool", None) is not None
    return has_token and not pools_attention and not isinstance(vit.norm, nn.Identity)


def pool_to_class_token_and_patch_mean(
    trunk: nn.Module, images: Images
) -> tuple[Features, Features]:
    """Return the class token of a trunk with the pooling "mean_for_classifier", and its feature with "mean".

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
