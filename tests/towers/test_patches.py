"""Images that patches do not cover are refused before a run, unless a published tower reads such images itself."""

import pytest

from bench.experiment.experiments import EXPERIMENTS
from bench.towers.patches import check_whole_patches, patch_and_image_size
from models.image_tower import build_image_tower
from models.patch_map import map_channels_and_patch_size
from tests.small import small


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_patches_cover_the_images_of_every_shipped_experiment(name: str) -> None:
    assert patch_and_image_size(EXPERIMENTS[name].image.tower)[0] is not None
    assert check_whole_patches(EXPERIMENTS[name]) == []


@pytest.mark.parametrize(
    "name", ["catlip-bench-tiny", "vit_tiny_patch16_224", "corenet-vit-tiny", "ViT-B-32"]
)
def test_patches_are_those_of_the_built_tower(name: str) -> None:
    patch, published = patch_and_image_size(name)
    size = published or 224
    assert map_channels_and_patch_size(build_image_tower(name, size, 0))[1] == patch


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"image_size": 50},
            "patches of 12 px of the tower catlip-bench-tiny leave 2 of 50 px .*: 48 or 60$",
        ),
        ({"image_size": 10}, "leave 10 of 10 px uncovered; sizes that fit: 12$"),
        ({"image_sizes": (36, 52)}, "leave 4 of 52 px uncovered; sizes that fit: 48 or 60$"),
        ({"tower": "vit_base_patch16_224", "image_size": 50}, "16 px .* 48 or 64$"),
        ({"tower": "corenet-vit-tiny", "image_size": 200}, "16 px .* 192 or 208$"),
        (
            {"tower": "RN50", "teacher": "ViT-L-14", "image_size": 50},
            "14 px .* ViT-L-14 .* 42 or 56$",
        ),
    ],
)
def test_uncovered_pixels_are_refused_with_the_sizes_that_fit(
    changes: dict[str, object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        check_whole_patches(small("distill" if "teacher" in changes else "catlip", **changes))


def test_uncovered_pixels_of_published_towers_are_a_warning_and_networks_without_patches_have_none() -> (
    None
):
    published = small("catlip", tower="ViT-SO400M-14-SigLIP-384", image_size=384)
    (warning,) = check_whole_patches(published)
    assert "leave 6 of 384 px uncovered, as in the published tower" in warning
    for changes in (
        {"tower": "RN50", "image_size": 50},
        {"embedding_channels": 8, "data": "shards", "image_size": 5},
    ):
        assert check_whole_patches(small("catlip", **changes)) == []
