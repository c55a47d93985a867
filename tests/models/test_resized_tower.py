"""A resized tower is the tower that is built and loaded at that size."""

import pytest
import torch

from models.checkpoint import resample_position_embeddings
from models.image_tower import build_image_tower, make_renormalisation
from models.patch_map import copy_resized_tower


@pytest.mark.parametrize(
    ("name", "size", "side", "expected"),
    [
        ("catlip-bench-tiny", 48, 70, 72),
        ("vit_tiny_patch16_224", 48, 96, 96),
        ("corenet-vit-tiny", 224, 90, 96),
        ("resnet18", 64, 96, 96),
    ],
)
def test_resized_tower_equals_the_tower_loaded_at_that_size(
    name: str, size: int, side: int, expected: int
) -> None:
    tower = build_image_tower(name, size, 0).eval()
    tower.renormalise = make_renormalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    resized, built = copy_resized_tower(tower, side), build_image_tower(name, expected, 1).eval()
    built.trunk.load_state_dict(resample_position_embeddings(tower.trunk.state_dict(), built.trunk))
    built.renormalise = tower.renormalise
    images = torch.randn(2, 3, expected, expected, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(resized(images), built(images))
    assert (resized.image_size, tower.image_size, resized.training) == (expected, size, False)
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())
    assert next(resized.parameters()).data_ptr() != next(tower.parameters()).data_ptr()
