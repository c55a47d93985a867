"""Towers of any family train with every method, or are refused in one line with the reason."""

from typing import Any

import pytest
import torch
from torch import nn

from models.image_tower import build_image_tower

WITH_CLASS_TOKEN = {"catlip-bench-tiny": 48, "test_vit": 32}  # sides of images


def pooled(name: str, side: int, **options: Any) -> list[Any]:
    """Build a tower with each pooling, with equal seeds."""
    return [
        build_image_tower(name, side, 3, pooling=pooling, **options).eval()
        for pooling in ("tower", "mean", "mean_for_classifier")
    ]


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
def test_second_feature_of_both_is_the_feature_of_mean_with_the_same_weights(name: str) -> None:
    side = WITH_CLASS_TOKEN[name]
    own, mean, both = pooled(name, side)
    weights = own.state_dict()
    for tower in (mean, both):
        assert all(torch.equal(value, weights[key]) for key, value in tower.state_dict().items())
    images = torch.randn(2, 3, side, side)
    feature, patch_mean = both(images, with_patch_mean=True)
    torch.testing.assert_close(patch_mean, mean(images))
    torch.testing.assert_close(feature, both(images))
    tokens = mean.compute_patch_tokens(images)
    torch.testing.assert_close(patch_mean, tokens.mean(1))
    torch.testing.assert_close(both.compute_patch_tokens(images), tokens)
    assert not torch.allclose(patch_mean, feature)


@pytest.mark.parametrize("name", ["test_vit", "test_vit2"])
def test_grid_of_embeddings_is_read_by_a_patch_embedding(name: str) -> None:
    tower = build_image_tower(name, 4, 0, input_embedding_grid_channels=8).eval()
    grids = torch.randn(2, 8, 4, 4)
    assert tower.compute_patch_tokens(grids).shape[1] == 16
    (layer,) = [one for one in tower.trunk.patch_embed.modules() if isinstance(one, nn.Conv2d)]  # type: ignore[union-attr]
    assert layer.weight[0].numel() == 8


@pytest.mark.parametrize(
    ("name", "side", "pooling", "text"),
    [
        (
            "deit_tiny_distilled_patch16_224",
            32,
            "mean",
            "The distilled head reads the class and distillation tokens",
        ),
        ("resnet18", 64, "mean_for_classifier", "it has no class token after its last norm"),
        ("coca_ViT-B-32", 224, "mean_for_classifier", "it pools by attention before its last norm"),
        ("corenet-vit-tiny", 224, "mean", "its pooling is fixed"),
        ("volo_d1_224", 224, "mean", "its mean includes the class token"),
    ],
)
def test_pooling_that_a_tower_does_not_have_is_refused_with_the_reason(
    name: str, side: int, pooling: Any, text: str
) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=text) as refused:
        build_image_tower(name, side, 0, pooling=pooling)
    assert str(refused.value).startswith(f"pooling={pooling} ")
    assert str(refused.value).endswith("choose another, or set pooling=tower")
