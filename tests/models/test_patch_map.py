"""Patch maps are what open_clip's own forward leaves at each place."""

import copy
from typing import Any

import pytest
import torch
from open_clip.model import _build_vision_tower

from models.image_tower import ImageTower
from models.open_clip_blocks import (
    compute_all_tokens_in_last_block,
    replace_blocks_by_image_blocks,
    uses_class_token_only,
)
from models.patch_map import compute_patch_feature_map

VARIANTS: dict[str, dict[str, Any]] = {
    "as CLIP": {},
    "mean of the patches": {"pool_type": "avg"},
    "norm behind the pooling": {"final_ln_after_pool": True},
    "layer scale": {"ls_init_value": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_patch_map_equals_open_clips_tokens(variant: str) -> None:
    """Also where the tower's last block computed the class token alone before."""
    torch.manual_seed(0)
    config = {
        "image_size": 48,
        "patch_size": 12,
        "width": 64,
        "layers": 2,
        "head_width": 32,
        **VARIANTS[variant],
    }
    theirs = _build_vision_tower(16, config).double()
    theirs.proj, theirs.output_tokens = None, True
    ours = copy.deepcopy(theirs)
    ours.output_tokens = False
    replace_blocks_by_image_blocks(ours.transformer, class_token_only=uses_class_token_only(ours))
    images = torch.randn(3, 3, 48, 48, dtype=torch.float64)
    tower = ImageTower(ours, 48)
    compute_all_tokens_in_last_block(ours)
    found = compute_patch_feature_map(tower, images)
    assert found.shape == (3, 64, 4, 4)
    torch.testing.assert_close(
        found.flatten(2).transpose(1, 2), theirs(images)[1], rtol=1e-10, atol=1e-10
    )
    if variant != "norm behind the pooling":
        (placed,) = theirs.forward_intermediates(images, indices=1, normalize_intermediates=True)[
            "image_intermediates"
        ]
        torch.testing.assert_close(found, placed, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tower(images), theirs(images)[0], rtol=1e-10, atol=1e-10)
