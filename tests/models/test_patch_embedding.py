"""A linear patch embedding is the convolution: same values, same gradients, same weights by name."""

import pytest
import torch
from timm.layers import Format
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from models.image_tower import build_image_tower
from models.patch_embedding import LinearPatchEmbedding, use_linear_patch_embedding
from tests.tensors import assert_equal_with_gradients


@pytest.mark.parametrize("size", [(24, 24), (16, 40), (23, 37)], ids=str)
@pytest.mark.parametrize("layout", [None, "NHWC"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_patch_embedding_equals_the_convolution(
    size: tuple[int, int], layout: str | None, has_bias: bool
) -> None:
    """To float64's last digits; pixels that do not fill a patch are ignored by both."""
    torch.manual_seed(0)
    settings = {"img_size": None, "patch_size": 8, "embed_dim": 12, "bias": has_bias}
    settings |= {
        "output_fmt": layout and Format(layout),
        "flatten": layout is None,
        "dynamic_img_pad": 23 in size,
    }
    theirs, ours = PatchEmbed(**settings).double(), PatchEmbed(**settings).double()
    ours.load_state_dict(theirs.state_dict())
    use_linear_patch_embedding(ours)
    assert (type(ours.proj), type(theirs.proj)) == (LinearPatchEmbedding, nn.Conv2d)
    images = torch.randn(3, 3, *size, dtype=torch.float64, requires_grad=True)
    for layers in ((ours, theirs), (ours.proj, theirs.proj)):
        assert_equal_with_gradients(
            *((layer(images), [images, *layer.parameters()]) for layer in layers)
        )


@pytest.mark.parametrize("name", ["catlip-bench-tiny", "vit_tiny_patch16_224"])
def test_towers_of_both_libraries_have_it(name: str) -> None:
    tower = build_image_tower(name, 48, 0)
    assert sum(isinstance(module, LinearPatchEmbedding) for module in tower.modules()) == 1


def test_stem_of_several_convolutions_is_kept() -> None:
    tower = build_image_tower("corenet-vit-tiny", 48, 0)
    assert not any(isinstance(module, LinearPatchEmbedding) for module in tower.modules())
