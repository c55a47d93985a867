"""A tower's parameters by depth: each once, in the order in which the pixels meet them."""

import pytest
import torch

from models.image_tower import build_image_tower
from models.tower_blocks import group_parameters_by_depth

# With their numbers of blocks: open_clip's own, timm's, timm's inside open_clip's, CoreNet's.
TOWERS = {
    "catlip-bench-tiny": 4,
    "vit_tiny_patch16_224": 12,
    "ViT-B-16-SigLIP": 12,
    "corenet-vit-tiny": 12,
}


@pytest.mark.parametrize(("name", "blocks"), TOWERS.items())
def test_every_parameter_has_one_depth(name: str, blocks: int) -> None:
    with torch.device("meta"):
        tower = build_image_tower(name, 48 if name == "catlip-bench-tiny" else 224, 0)
    layers = group_parameters_by_depth(tower)
    found = [id(parameter) for layer in layers for parameter in layer]
    assert sorted(found) == sorted(id(parameter) for parameter in tower.parameters())
    assert len(layers) == blocks + 1


def test_parameters_are_used_in_order_of_depth() -> None:
    """The gradient of a block's input reaches what lies before it alone: cut there, and the depths below get none."""
    tower = build_image_tower("catlip-bench-tiny", 48, 0)
    layers = group_parameters_by_depth(tower)
    blocks = tower.trunk.transformer.resblocks
    for depth, block in enumerate(blocks, start=1):
        hook = block.register_forward_pre_hook(lambda _, inputs: (inputs[0].detach(), *inputs[1:]))
        tower.zero_grad()
        tower(torch.rand(2, 3, 48, 48)).sum().backward()
        hook.remove()
        reached = [any(parameter.grad is not None for parameter in layer) for layer in layers]
        assert reached == [above >= depth for above in range(len(layers))]
