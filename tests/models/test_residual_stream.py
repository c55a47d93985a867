"""The precision of the sums between blocks: the tower's own, or that of autocast."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.image_tower import build_image_tower
from models.repeated_blocks import transformer_blocks
from models.tower_blocks import cast_residual_stream

TOWERS = {"catlip-bench-tiny": torch.bfloat16, "vit_tiny_patch16_224": torch.float32, "corenet-vit-tiny": torch.float32}


def block_outputs(tower: nn.Module, images: Tensor, *, is_autocast: bool) -> tuple[Tensor, list[torch.dtype]]:
    """Return the features, and the precision of each block's output."""
    found = list[torch.dtype]()

    def note(_block: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.append(output.dtype)

    hooks = [block.register_forward_hook(note) for block in transformer_blocks(tower)]
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        features = tower(images)
    for hook in hooks:
        hook.remove()
    return features, found


@pytest.mark.parametrize("name", TOWERS)
def test_sums_between_blocks_are_in_the_precision_of_autocast(name: str) -> None:
    tower, images = build_image_tower(name, 48, 0), torch.randn(2, 3, 48, 48)
    exact, _ = block_outputs(tower, images, is_autocast=False)
    _, own = block_outputs(tower, images, is_autocast=True)
    cast_residual_stream(tower)
    rounded, cast = block_outputs(tower, images, is_autocast=True)
    assert set(own) == {TOWERS[name]}
    assert set(cast) == {torch.bfloat16}
    assert torch.nn.functional.cosine_similarity(rounded.float(), exact).min() > 0.999
    assert torch.equal(block_outputs(tower, images, is_autocast=False)[0], exact)
