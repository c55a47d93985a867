"""Patch maps are what the libraries' own forwards leave at each place, at any size."""

import copy
from typing import Any

import pytest
import timm
import torch
from open_clip.model import _build_vision_tower

from models.image_tower import ImageTower, build_image_tower
from models.open_clip_blocks import replace_blocks_by_image_blocks, uses_class_token_only
from models.patch_map import compute_patch_feature_map

VARIANTS: dict[str, dict[str, Any]] = {
    "as CLIP": {},
    "mean of the patches": {"pool_type": "avg"},
    "norm behind the pooling": {"final_ln_after_pool": True},
    "layer scale": {"ls_init_value": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_patch_map_equals_open_clips_tokens(variant: str) -> None:
    """Also where the tower's last block computes the class token alone."""
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


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "vit_base_patch16_siglip_224", "vit_medium_patch16_reg4_gap_256"],
)
@pytest.mark.parametrize("sides", [(48, 48), (32, 96)])
def test_patch_map_equals_timms_tokens_at_any_size(name: str, sides: tuple[int, int]) -> None:
    """The tower was built for one size; the reference is timm's model built for all."""
    small = {
        "pretrained": False,
        "num_classes": 0,
        "img_size": 48,
        "embed_dim": 64,
        "depth": 2,
        "num_heads": 2,
    }
    torch.manual_seed(0)
    fixed = timm.create_model(name, **small)
    dynamic = timm.create_model(name, dynamic_img_size=True, **small)
    dynamic.load_state_dict(fixed.state_dict())
    images = torch.randn(2, 3, *sides)
    (expected,) = dynamic.eval().forward_intermediates(
        images, indices=1, norm=True, intermediates_only=True
    )
    torch.testing.assert_close(
        compute_patch_feature_map(ImageTower(fixed, 48).eval(), images),
        expected,
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "corenet-vit-tiny", "vit_tiny_patch16_224"])
def test_image_sizes_not_divisible_by_the_patch_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"100 x 96 px do not divide into patches of 1. px"):
        compute_patch_feature_map(build_image_tower(name, 48, 0), torch.randn(1, 3, 96, 100))
