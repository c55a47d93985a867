"""A patch embedding by a matrix product is the convolution: same values, same gradients, same weights by name."""

import pytest
import torch
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from models.image_tower import build_image_tower
from models.patch_embedding import PatchEmbedding, replace_patch_embedding


@pytest.mark.parametrize("size", [(24, 24), (16, 40), (23, 37)], ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
def test_patch_embedding_equals_the_convolution(size: tuple[int, int], has_bias: bool) -> None:
    """To float64's last digits; pixels that do not fill a patch are ignored by both."""
    torch.manual_seed(0)
    theirs = PatchEmbed(img_size=None, patch_size=8, embed_dim=12, bias=has_bias, dynamic_img_pad=False).double()
    ours = PatchEmbed(img_size=None, patch_size=8, embed_dim=12, bias=has_bias, dynamic_img_pad=False).double()
    ours.load_state_dict(theirs.state_dict())
    replace_patch_embedding(ours)
    assert (type(ours.proj), type(theirs.proj)) == (PatchEmbedding, nn.Conv2d)
    images = torch.randn(3, 3, *size, dtype=torch.float64, requires_grad=True)
    found, expected = ours.proj(images), theirs.proj(images)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    gradients = [
        torch.autograd.grad((output * weights).sum(), [images, *module.parameters()])
        for output, module in ((found, ours), (expected, theirs))
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "vit_tiny_patch16_224"])
def test_towers_of_both_libraries_have_it(name: str) -> None:
    tower = build_image_tower(name, 48, 0)
    assert sum(isinstance(module, PatchEmbedding) for module in tower.modules()) == 1
    assert all(parameter.requires_grad for parameter in tower.parameters())


def test_overlapping_patches_stay_convolutions() -> None:
    tower = build_image_tower("corenet-vit-tiny", 48, 0)
    assert not any(isinstance(module, PatchEmbedding) for module in tower.modules())
