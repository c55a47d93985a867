"""The blocks of towers: their parameters by depth, and activation checkpointing."""

from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import nn

from models import unwrap_timm_trunk
from models.corenet_vit import CorenetViT
from models.image_tower import ImageTower
from models.repeated_blocks import iterate_blocks
from models.text_decoder import TextDecoder
from models.text_tower import TextTower

TOWER_TYPES = (ImageTower, TextTower, TextDecoder)
# Modules after the last block, by the type of trunk.
MODULES_AFTER_BLOCKS = {
    OpenClipViT: ("ln_post", "attn_pool", "attn_pool_contrastive"),
    TimmViT: ("norm", "attn_pool", "fc_norm", "head"),
    CorenetViT: ("norm",),
}


def get_all_tower_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of all towers and decoders of a model, a frozen teacher's included."""
    blocks: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, TOWER_TYPES):
            blocks += iterate_blocks(module)
    return blocks


def group_parameters_by_depth(tower: ImageTower) -> list[list[nn.Parameter]]:
    """Return the parameters before the first block, then the parameters of each block; every parameter is in one list.

    Modules after the last block (norm, pooling) count as part of it. ValueError for a trunk whose blocks are not known.
    """
    trunk = unwrap_timm_trunk(tower.trunk)
    kind = type(trunk)
    if kind not in MODULES_AFTER_BLOCKS:
        raise ValueError(
            f"a tower of kind {kind.__name__} has no known order of blocks; the vision transformers of open_clip, timm "
            "and CoreNet have one"
        )
    blocks: Any = trunk.blocks if kind is TimmViT else trunk.transformer.resblocks
    layers = [list(block.parameters()) for block in blocks]
    for name in MODULES_AFTER_BLOCKS[kind]:
        module = getattr(trunk, name, None)
        if module is not None:
            layers[-1] += module.parameters()
    in_layers = {id(parameter) for layer in layers for parameter in layer}
    before_blocks = [
        parameter for parameter in tower.parameters() if id(parameter) not in in_layers
    ]
    return [before_blocks, *layers]


def enable_activation_checkpointing(model: nn.Module) -> None:
    """Let the blocks of a model's trained towers be recomputed in the backward, instead of storing their activations.

    ValueError for a tower without support. Source: Chen et al. 2016, "Training deep nets with sublinear memory cost"
    (arXiv 1604.06174).
    """
    for module in model.modules():
        if isinstance(module, TextTower):
            module.text.set_grad_checkpointing(True)
        if isinstance(module, TextDecoder):
            module.grad_checkpointing = True
        if not isinstance(module, ImageTower):
            continue
        is_frozen_teacher = not any(parameter.requires_grad for parameter in module.parameters())
        if is_frozen_teacher:
            continue
        trunk = unwrap_timm_trunk(module.trunk)
        unsupported = f"a {type(trunk).__name__} has no activation checkpointing"
        ignores_the_call = isinstance(trunk, ModifiedResNet)
        if ignores_the_call:
            raise ValueError(unsupported)
        try:
            trunk.set_grad_checkpointing(True)
        except (AttributeError, AssertionError):  # timm's answer where there is no support
            raise ValueError(unsupported) from None
