"""Towers that read grids of embeddings instead of pixels; each embedding is a patch."""

from typing import Any, cast

import timm
from open_clip.model import _build_vision_tower
from open_clip.transformer import VisionTransformer
from torch import nn


class NoPatchesError(Exception):
    """A tower without separate patches."""

    def __str__(self) -> str:
        return "its stem reads overlapping patches, and embeddings have no pixels"


def open_clip_trunk(config: dict[str, Any], side: int, channels: int) -> nn.Module:
    """Build an open_clip ViT whose patches are single embeddings. Raises NoPatchesError."""
    vision = config["vision_cfg"] | {"image_size": side, "timm_model_pretrained": False}
    if "timm_model_name" not in vision:
        vision["patch_size"] = 1
    trunk: Any = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    if not isinstance(trunk, VisionTransformer):
        raise NoPatchesError
    trunk.conv1 = nn.Conv2d(channels, trunk.conv1.out_channels, kernel_size=1, bias=False)
    return cast("nn.Module", trunk)


def timm_trunk(name: str, side: int, channels: int) -> nn.Module:
    """Build a timm ViT whose patches are single embeddings. Raises NoPatchesError."""
    try:
        trunk: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=0, img_size=side, patch_size=1, in_chans=channels
        )
    except TypeError:
        raise NoPatchesError from None
    stem = getattr(getattr(trunk, "patch_embed", None), "proj", None)
    if not isinstance(stem, nn.Conv2d) or stem.kernel_size != (1, 1):
        raise NoPatchesError
    return trunk
