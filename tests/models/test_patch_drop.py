"""Part of the patches, in their order, while training; all of them otherwise."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.image_tower import build_image_tower
from models.patch_drop import PatchDrop


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.integers(1, 20), st.floats(0.01, 0.99), st.integers(0, 3), st.integers(0, 2**31))
def test_patch_drop_keeps_an_ordered_subset_of_each_image(
    patches: int, share: float, prefix: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.arange(3 * (prefix + patches)).view(3, -1, 1).expand(-1, -1, 5).double()
    kept = PatchDrop(share, prefix)(x)
    assert kept.shape == (3, prefix + max(1, int(patches * (1 - share))), 5)
    assert torch.equal(kept[:, :prefix], x[:, :prefix])
    for row, whole in zip(kept[..., 0].tolist(), x[..., 0].tolist(), strict=True):
        assert row == sorted(set(row))
        assert {*row} <= {*whole}


def test_scoring_sees_every_patch() -> None:
    x = torch.randn(2, 9, 4)
    assert PatchDrop(0.5, 1).eval()(x) is x


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("catlip-bench-tiny", 48),
        ("vit_tiny_patch16_224", 64),
        ("test_vit2", 64),
    ],
)
def test_half_of_the_patches_are_dropped_in_training_and_all_tokens_before_them_kept(
    name: str, size: int
) -> None:
    tower, seen = build_image_tower(name, size, 0, patch_drop=0.5), list[int]()
    trunk: Any = tower.trunk
    blocks, prefix = (
        (trunk.transformer.resblocks, 1)
        if "bench" in name
        else (trunk.blocks, trunk.num_prefix_tokens)
    )
    blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    for is_training in (True, False):
        tower.train(is_training)(torch.randn(2, 3, size, size))
    assert seen == [prefix + 8, prefix + 16]


@pytest.mark.parametrize(
    ("name", "size"),
    [("ViTamin-S", 224), ("RN50", 64), ("swin_tiny_patch4_window7_224", 224)],
)
def test_towers_without_patch_drop_support_are_refused(name: str, size: int) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="patches cannot be dropped from a"):
        build_image_tower(name, size, 0, patch_drop=0.5)
