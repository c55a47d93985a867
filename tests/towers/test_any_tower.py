"""Towers of any family train with every method, except where the table of docs/results/towers.md gives the reason.

`python -m tests.towers.test_any_tower` writes the table.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.experiment.experiments import METHOD_SETTINGS
from bench.towers.head_file import save_tower
from bench.towers.listing import unsupported_methods
from bench.towers.tower_from import LoadedTower, load_tower
from bench.train.build import build_untrained_tower
from models.image_tower import ImageTower, build_image_tower
from models.patch_map import patch_map
from tests.towers.any_tower import (
    QUICK,
    TOWERS,
    assert_timm_computes_the_same,
    experiment_of,
    provenance_of,
    take_step,
)

PAGE = Path(__file__).parents[2] / "docs" / "results" / "towers.md"


# Towers whose own pooling is not the mean of their map, by the side of an image.
WITH_CLASS_TOKEN_OR_ATTENTION = {
    "catlip-bench-tiny": 48,
    "vit_pe_core_tiny_patch16_384": 32,
    "small-resnet": 64,
}


def pooled(name: str, side: int, **options: Any) -> list[Any]:
    """Build a tower with each pooling, with equal seeds."""
    return [
        build_image_tower(name, side, 3, pooling=pooling, **options).eval()
        for pooling in ("own", "mean", "both")
    ]


@pytest.mark.parametrize("name", QUICK | WITH_CLASS_TOKEN_OR_ATTENTION)
def test_second_feature_of_both_is_the_feature_of_mean_with_the_same_weights(name: str) -> None:
    side = (QUICK | WITH_CLASS_TOKEN_OR_ATTENTION)[name]
    own, mean, both = pooled(name, side)
    weights = own.state_dict()
    for tower in (mean, both):
        assert all(torch.equal(value, weights[key]) for key, value in tower.state_dict().items())
    images = torch.randn(2, 3, side, side)
    feature, patch_mean = both(images, with_patch_mean=True)
    torch.testing.assert_close(patch_mean, mean(images))
    torch.testing.assert_close(feature, both(images))
    assert (patch_mean.shape[1], feature.shape[1]) == (both.patch_mean_width, both.width)
    if name in WITH_CLASS_TOKEN_OR_ATTENTION:
        torch.testing.assert_close(feature, own(images))
        torch.testing.assert_close(patch_mean, patch_map(own, images).mean((2, 3)))
        torch.testing.assert_close(patch_map(mean, images), patch_map(own, images))
        assert not torch.allclose(patch_mean[:, : own.width], feature)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("method", ["superclass", "superclip"])
def test_tower_of_any_family_is_trained_and_loaded_by_timm_alone(
    name: str, method: str, tmp_path: Path
) -> None:
    """The mean of the patches, and the tower's own feature, which superclip reads beside the mean."""
    experiment = experiment_of(method, name, QUICK[name])
    take_step(experiment, tower := build_untrained_tower(experiment))
    save_tower(tower.state_dict(), tmp_path / "x.safetensors", provenance_of(experiment).to_facts())
    assert_timm_computes_the_same(load_tower(str(tmp_path / "x.safetensors")), tmp_path / "out")


@pytest.mark.parametrize("name", ["test_vit3", "vit_pe_core_tiny_patch16_384"])
def test_grid_of_embeddings_is_read_by_a_patch_embedding(name: str) -> None:
    tower = build_image_tower(name, 4, 0, embedding_channels=8).eval()
    grids = torch.randn(2, 8, 4, 4)
    assert patch_map(tower, grids).shape[2:] == (4, 4)
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
        ("pit_ti_224", 224, "both", "one sequence or map of patch tokens"),
        ("crossvit_tiny_240", 240, "both", "one sequence or map of patch tokens"),
        ("coca_ViT-B-32", 224, "both", "its last norm has the width of its attention pooling"),
        ("corenet-vit-tiny", 224, "mean", "it is of neither library"),
        ("resnet50_clip", 64, "mean", "Only token pooling"),
        ("test_vit3", 160, "mean", "its mean includes the tokens before the patches"),
        ("volo_d1_224", 224, "mean", "its mean includes the tokens before the patches"),
    ],
)
def test_pooling_that_a_tower_does_not_have_is_refused_with_the_reason(
    name: str, side: int, pooling: Any, text: str
) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=text) as refused:
        build_image_tower(name, side, 0, pooling=pooling)
    assert str(refused.value).startswith(f"pooling={pooling} ")
    assert str(refused.value).endswith("choose another, or set pooling=own")


def test_names_are_of_many_families() -> None:
    assert len(TOWERS) >= 40


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TOWERS)
def test_methods_train_every_tower_unless_the_page_says_why_not(name: str, tmp_path: Path) -> None:
    """One step with finite gradients for each method; the tower of each pooling is loaded by timm alone."""
    unable, built = unsupported_methods(name, TOWERS[name]), dict[str, ImageTower]()
    assert row(name, unable) in PAGE.read_text(encoding="utf-8"), (
        "write it: python -m tests.towers.test_any_tower"
    )
    for method in METHOD_SETTINGS:
        experiment = experiment_of(method, name, TOWERS[name])
        image = f"{experiment.image.pooling}-{experiment.image.patch_drop}"
        if method in unable:
            with pytest.raises(ValueError, match=r"accepted are|choose another"):
                build_untrained_tower(experiment)
        elif image in built:
            take_step(experiment, copy.deepcopy(built[image]))
        else:
            built[image] = build_untrained_tower(experiment)
            take_step(experiment, tower := copy.deepcopy(built[image]))
            (tmp_path / image).mkdir()
            known = LoadedTower(tower, method, name, provenance_of(experiment))
            assert_timm_computes_the_same(known, tmp_path / image)


def row(name: str, unable: dict[str, str]) -> str:
    """Return a tower's row of the page, with the reasons without what was given and what is accepted."""
    short = {
        method: reason.partition(";")[0].rpartition(": ")[2] for method, reason in unable.items()
    }
    reasons = "; ".join(f"`{method}`: {reason}" for method, reason in short.items())
    return f"| `{name}` | {TOWERS[name]} | {reasons or 'none'} |"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before = text[: text.index("| tower |")]
    head = ["| tower | side, px | methods that cannot train it |", "|---|---|---|"]
    rows = [row(name, unsupported_methods(name, side)) for name, side in TOWERS.items()]
    PAGE.write_text(before + "\n".join([*head, *rows, ""]), encoding="utf-8")
