"""Activation checkpointing: blocks are recomputed in the backward pass, and their activations are not stored.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost" (arXiv 1604.06174).
"""

from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn

from models.image_tower import ImageTower
from models.text_tower import TextTower


def checkpoint_activations(model: nn.Module) -> None:
    """Enable it for every block of the towers in a model; ValueError for a tower without support."""
    for module in model.modules():
        if not any(parameter.requires_grad for parameter in module.parameters()):
            continue  # a frozen teacher stores no activations
        if isinstance(module, TextTower):
            module.text.set_grad_checkpointing(True)
        elif isinstance(module, ImageTower):
            trunk: Any = module.trunk.trunk if isinstance(module.trunk, TimmModel) else module.trunk
            can = hasattr(trunk, "set_grad_checkpointing")
            can = can and not isinstance(trunk, ModifiedResNet)  # open_clip's ResNet ignores the call
            try:
                is_on = can and trunk.set_grad_checkpointing(True) is None
            except AssertionError:  # timm raises it where there is no support
                is_on = False
            if not is_on:
                raise ValueError(f"a {type(trunk).__name__} has no activation checkpointing")
