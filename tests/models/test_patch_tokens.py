"""Patch tokens: one for each patch, row by row, after the last norm, with a gradient to the tower."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from models.image_tower import ImageTower, build_image_tower
from models.patch_map import compute_patch_feature_map, copy_resized_tower

META = torch.device("meta")
# Tower, image side, patches, width: towers of 20 families.
TOWERS = [
    ("catlip-bench-tiny", 48, 16, 128),
    ("ViT-B-32", 224, 49, 768),
    ("ViT-B-16-SigLIP", 224, 196, 768),
    ("coca_ViT-B-32", 224, 49, 768),
    ("EVA02-B-16", 224, 196, 768),
    ("corenet-vit-tiny", 224, 196, 192),
    ("vit_tiny_patch16_224", 224, 196, 192),
    ("vit_medium_patch16_reg4_gap_256", 256, 256, 512),
    ("vit_base_patch14_reg4_dinov2", 224, 256, 768),
    ("vit_relpos_small_patch16_224", 224, 196, 384),
    ("deit_tiny_distilled_patch16_224", 224, 196, 192),
    ("beit_base_patch16_224", 224, 196, 768),
    ("eva02_tiny_patch14_224", 224, 256, 192),
    ("cait_xxs24_224", 224, 196, 192),
    ("xcit_nano_12_p16_224", 224, 196, 128),
    ("swin_tiny_patch4_window7_224", 224, 49, 768),
    ("maxvit_tiny_tf_224", 224, 49, 512),
    ("coatnet_0_rw_224", 224, 49, 768),
    ("mvitv2_tiny", 224, 49, 768),
    ("nest_tiny", 224, 196, 384),
    ("pvt_v2_b0", 224, 49, 256),
    ("efficientvit_b0", 224, 49, 128),
    ("edgenext_xx_small", 224, 49, 168),
    ("resnet18", 224, 49, 512),
    ("regnety_004", 224, 49, 440),
    ("convnext_atto", 224, 49, 320),
    ("efficientnet_b0", 224, 49, 320),
    ("mobilenetv3_small_100", 224, 49, 576),
    ("densenet121", 224, 49, 1024),
    ("poolformer_s12", 224, 49, 512),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "side", "patches", "width"), TOWERS)
def test_tokens_of_every_family_have_a_place_and_a_width(
    name: str, side: int, patches: int, width: int
) -> None:
    with META:
        tower = build_image_tower(name, side, seed=0, last_block_computes_patches=True).eval()
        images = torch.empty(2, 3, side, side)
    assert tower.compute_patch_tokens(images).shape == (2, patches, width)
    assert tower.infer_patch_token_width() == width


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("catlip-bench-tiny", 48),
        ("vit_tiny_patch16_224", 64),
        ("deit_tiny_distilled_patch16_224", 64),
        ("eva02_tiny_patch14_224", 56),
        ("swin_tiny_patch4_window7_224", 224),
        ("convnext_atto", 64),
        ("resnet18", 64),
    ],
)
def test_tokens_are_the_patch_map_row_by_row_and_train_the_tower(name: str, side: int) -> None:
    tower = build_image_tower(name, side, seed=0, last_block_computes_patches=True).eval()
    images = torch.randn(2, 3, side, side)
    tokens = tower.compute_patch_tokens(images)
    if isinstance(tower.trunk, VisionTransformer):
        theirs = tower.trunk.forward_intermediates(images, intermediates_only=True, norm=True)[-1]
        torch.testing.assert_close(compute_patch_feature_map(tower, images), theirs)
    tokens.square().sum().backward()
    first = next(weight for weight in tower.parameters() if weight.ndim > 1)
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "vit_tiny_patch16_224"])
def test_mean_of_the_tokens_is_the_feature_of_a_tower_with_mean_pooling(name: str) -> None:
    tower = build_image_tower(name, 48, seed=0, pooling="mean").eval()
    images = torch.randn(3, 3, 48, 48)
    pooled = tower.compute_patch_tokens(images).mean(1)
    if name.startswith("vit"):  # timm normalises the mean, not the tokens
        pooled = tower.trunk.fc_norm(pooled)
    torch.testing.assert_close(pooled, tower(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "corenet-vit-tiny"])
def test_feature_is_equal_with_kept_tokens(name: str) -> None:
    images = torch.randn(2, 3, 48, 48)
    kept = build_image_tower(name, 48, seed=0, last_block_computes_patches=True).eval()
    class_token_only = build_image_tower(name, 48, seed=0).eval()
    torch.testing.assert_close(kept(images), class_token_only(images))
    copied = copy_resized_tower(class_token_only, 48, last_block_computes_patches=True)
    tokens = kept.compute_patch_tokens(images)
    torch.testing.assert_close(copied.compute_patch_tokens(images), tokens)


def test_dropped_patches_have_no_token() -> None:
    images = torch.randn(2, 3, 48, 48)
    half = build_image_tower(
        "catlip-bench-tiny", 48, seed=0, patch_drop=0.5, last_block_computes_patches=True
    )
    assert half.train().compute_patch_tokens(images).shape[1] == 8
    assert half.eval().compute_patch_tokens(images).shape[1] == 16


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "corenet-vit-tiny"])
def test_tower_that_computes_the_class_token_alone_says_what_to_do(name: str) -> None:
    tower = build_image_tower(name, 48, seed=0)
    with pytest.raises(ValueError, match="reads_patch_tokens = True"):
        tower.compute_patch_tokens(torch.randn(1, 3, 48, 48))


def test_trunk_without_tokens_is_refused() -> None:
    trunk = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    tower = ImageTower(trunk, 8)
    with pytest.raises(ValueError, match="has no patch tokens"):
        tower.infer_patch_token_width()
