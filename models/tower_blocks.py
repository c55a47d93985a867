"""The blocks of towers: their parameters by depth, and activation checkpointing."""

from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from models import unwrap_timm_trunk
from models.image_tower import ImageTower
from models.repeated_blocks import iterate_blocks
from models.text_decoder import TextDecoder
from models.text_tower import TextTower

TOWER_TYPES = (ImageTower, TextTower, TextDecoder)


def get_all_tower_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of all towers and decoders of a model, a frozen teacher's included."""
    blocks: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, TOWER_TYPES):
            blocks += iterate_blocks(module)
    return blocks


def group_parameters_by_depth(tower: ImageTower) -> list[list[nn.Parameter]]:
    """Return the parameters before the first block, then the parameters of each block; every parameter is in one list.

    Parameters after a block (norm, pooling), in the order of the modules, count as part of it.
    """
    blocks = list(iterate_blocks(tower))
    depth_of_parameter = {}
    for block_depth, block in enumerate(blocks, 1):
        for parameter in block.parameters():
            depth_of_parameter[id(parameter)] = block_depth
    layers: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    depth = 0
    for parameter in tower.parameters():
        depth = depth_of_parameter.get(id(parameter), depth)
        layers[depth].append(parameter)
    return layers


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
