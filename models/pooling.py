"""The pooling of a vision transformer: the tower's own, the mean of its patch tokens, or both."""

from typing import Any, Literal

from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

from models import Features, Images

Pooling = Literal["own", "mean", "both"]


def set_pooling(trunk: nn.Module, name: str, pooling: Pooling) -> None:
    """Let a vision transformer return the mean of its patch tokens after the last norm instead of its class token.

    With "both" it still returns the class token, and `feature_and_patch_mean` returns both. The class token is not in
    the mean. Weights keep their names and values. ValueError for a trunk that pools something else than a class token.
    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `VisionTransformer` of `pool_type` "avg".
    """
    vit: Any = trunk
    if type(vit) is OpenClipViT and vit.pool_type == "tok" and vit.attn_pool is None:
        vit.pool_type = "avg" if pooling == "mean" else "tok"
    elif type(vit) is TimmViT and vit.global_pool == "token":
        vit.global_pool = "avg" if pooling == "mean" else "token"
    else:
        raise ValueError(
            f"pooling={pooling} needs a vision transformer of open_clip or timm with a class token, "
            f"which tower {name!r} is not: choose another tower, or set pooling=own"
        )


def feature_and_patch_mean(trunk: nn.Module, images: Images) -> tuple[Features, Features]:
    """Return the trunk's feature, and the mean of its patch tokens after the last norm; the trunk computes all tokens.

    Source: hustvl/SuperCLIP at fb59c6d, `SuperCLIP.encode_image_train` of `superclip/open_clip/superclip_model.py`.
    """
    vit: Any = trunk
    if isinstance(vit, TimmViT):
        tokens = vit.forward_features(images)
        return vit.forward_head(tokens), tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    feature, patches = vit._pool(vit.transformer(vit._embeds(images)))  # noqa: SLF001 - without `output_tokens`
    return feature, patches.mean(dim=1)
