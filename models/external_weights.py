"""Adapt weights that were trained elsewhere to a trunk of their architecture."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from open_clip.model import resize_pos_embed
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from models.identify_weights import strip_prefix

POSITIONS = "visual.positional_embedding"  # in a whole model of open_clip


def trunk_weights(state: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """Return the weights for a trunk at its image size, without projection and classifier.

    The file may hold a whole model of open_clip, its image tower alone, or a timm model.
    """
    if isinstance(trunk, VisionTransformer | TimmModel | ModifiedResNet):
        image = strip_prefix("visual.", state) or dict(state)
        return {name: value for name, value in resize_positions(image, trunk).items() if not _is_clip_head(name)}
    described: Any = trunk
    classifier = described.pretrained_cfg.get("classifier") or ()
    names = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    return {name: value for name, value in resize_positions(state, trunk).items() if not name.startswith(names)}


def resize_positions(state: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """Return weights with position embeddings resampled to the image size of a trunk.

    The code is that of the trunk's own library: open_clip's `resize_pos_embed` (bicubic over the grid, antialiased, the
    class token's unchanged), or the `checkpoint_filter_fn` of a timm model, which also converts other names. CoreNet's
    ViT interpolates in each forward. Weights of another architecture are returned unchanged.
    """
    weights = dict(state)
    if isinstance(trunk, VisionTransformer):
        table = weights.get("positional_embedding")
        if table is not None and table.shape[1:] == trunk.positional_embedding.shape[1:]:
            whole = {POSITIONS: table}
            resize_pos_embed(whole, SimpleNamespace(visual=trunk))
            weights["positional_embedding"] = whole[POSITIONS]
    elif isinstance(trunk, TimmModel):
        inner = resize_positions(strip_prefix("trunk.", weights), trunk.trunk)
        return {f"trunk.{name}": value for name, value in inner.items()}
    elif (adapt := _timm_filter(trunk)) is not None:
        with suppress(KeyError, RuntimeError, AssertionError, ValueError, TypeError):
            weights = adapt(weights, trunk)
    return weights


def _is_clip_head(name: str) -> bool:
    return name == "proj" or name.startswith(("head.proj.", "head.mlp."))


def _timm_filter(trunk: nn.Module) -> Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] | None:
    module = sys.modules[type(trunk).__module__]
    return getattr(module, "checkpoint_filter_fn", None) if module.__name__.startswith("timm.") else None
