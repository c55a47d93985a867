"""The precision of the sums between blocks: the tower's own, or that of autocast."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.image_tower import build_image_tower
from models.repeated_blocks import iterate_blocks
from models.tower_blocks import cast_residual_stream_to_autocast


def block_outputs(
    tower: nn.Module, images: Tensor, *, is_autocast: bool
) -> tuple[Tensor, set[torch.dtype]]:
    """Return the features, and the precisions of the blocks' outputs."""
    found = set[torch.dtype]()

    def note(_block: nn.Module, _inputs: Any, output: Tensor) -> None:
        found.add(output.dtype)

    hooks = [block.register_forward_hook(note) for block in iterate_blocks(tower)]
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        features = tower(images)
    for hook in hooks:
        hook.remove()
    return features, found


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "corenet-vit-tiny"])
def test_sums_between_blocks_are_in_the_precision_of_autocast(name: str) -> None:
    tower, images = build_image_tower(name, 48, 0), torch.randn(2, 3, 48, 48)
    exact, _ = block_outputs(tower, images, is_autocast=False)
    _, before = block_outputs(tower, images, is_autocast=True)
    cast_residual_stream_to_autocast(tower)
    rounded, after = block_outputs(tower, images, is_autocast=True)
    assert (before, after) == ({torch.float32}, {torch.bfloat16})
    assert torch.nn.functional.cosine_similarity(rounded.float(), exact).min() > 0.999
    assert torch.equal(block_outputs(tower, images, is_autocast=False)[0], exact)


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "deit3_small_patch16_224"])
def test_sums_that_are_in_that_precision_and_blocks_that_scale_are_refused(name: str) -> None:
    with torch.device("meta"):
        tower = build_image_tower(name, 48, 0)
    with pytest.raises(ValueError, match="residual_precision must be tower for a VisionTransf"):
        cast_residual_stream_to_autocast(tower)
