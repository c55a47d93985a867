"""Our text forward equals open_clip's on the padded batch, outputs and gradients."""

import open_clip
import pytest
import torch
from open_clip.model import _build_text_tower

from bench.data.targets import Tokens
from models.image_tower import build_image_tower
from models.text_tower import TextTower, build_text_tower


def test_a_cut_batch_gives_what_open_clip_gives_for_the_padded_one() -> None:
    torch.manual_seed(0)
    theirs = _build_text_tower(
        16, {"context_length": 24, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2}
    ).double()
    ours = TextTower(theirs)
    tokens = Tokens.of([[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]], start=48, end=49, context_length=24)
    cut = tokens.take(torch.tensor([2, 0, 1]))
    assert cut.tokens_per_caption == 8
    expected = theirs(tokens.ids[[2, 0, 1]])
    torch.testing.assert_close(ours(cut.ids, cut.lengths), expected, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(output.square().sum(), list(theirs.parameters()), retain_graph=True)
        for output in (ours(cut.ids, cut.lengths), expected)
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-12)


def test_unknown_and_unfit_text_towers_are_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'ViT-B-32'"):
        build_text_tower("ViT-B32", 77, 100, 0)
    with pytest.raises(ValueError, match="not a causal transformer"):
        build_text_tower("ViT-B-16-SigLIP", 64, 100, 0)


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [("ViT-B-32", 64, 768), ("vit_tiny_patch16_224", 48, 192), ("resnet18", 64, 512), ("ViTamin-S", 224, 384)],
)
def test_a_tower_of_either_library_gives_one_feature_before_any_projection(name: str, size: int, width: int) -> None:
    with torch.device("meta"):
        tower = build_image_tower(name, size, 0)
        assert tower.width == width
        assert tower.eval()(torch.empty(2, 3, size, size)).shape == (2, width)


def test_a_tower_is_open_clips_own_without_its_projection() -> None:
    tower = build_image_tower("catlip-bench-tiny", 48, 5)
    torch.manual_seed(0)
    model = open_clip.create_model("catlip-bench-tiny")
    visual = model.visual
    state = tower.trunk.state_dict()
    visual.load_state_dict(state | {"proj": visual.proj})
    visual.proj = None
    images = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(tower(images), visual(images))


def test_an_unknown_tower_is_refused_with_a_near_one() -> None:
    with pytest.raises(ValueError, match=r"no tower named 'vit_tiny_patch16_22'.*vit_tiny_patch16_224"):
        build_image_tower("vit_tiny_patch16_22", 224, 0)


def test_a_size_that_a_tower_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="'ViTamin-S' does not take images of 64 px"):
        build_image_tower("ViTamin-S", 64, 0)
