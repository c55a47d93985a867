"""CoreNet's ViT here computes what CoreNet computes from the same weights."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.labels.vocabulary import read_vocabulary, vocabulary_path
from bench.towers.tower_from import build_random_tower, load_tower
from models.corenet_vit import convert_corenet_weights
from tests.models.corenet_checkout import (
    CLASSES,
    RECORDED,
    SIDES,
    answers,
    corenet_vit,
    drawn,
    images,
)
from tests.tensors import differing

CHECKOUT = os.environ.get("CATLIP_BENCH_CORENET", "")
KINDS = ("flash", "naive")  # attention of two kinds, with weights of two names
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=KINDS)
def recorded(request: pytest.FixtureRequest) -> tuple[str, State]:
    """Weights under CoreNet's names, as the answers were recorded for."""
    found = np.load(RECORDED)
    shapes = [tuple(map(int, text.split())) for text in found[f"{request.param} shapes"].tolist()]
    return request.param, drawn(
        dict(zip(found[f"{request.param} names"].tolist(), shapes, strict=True))
    )


def saved(state: State, path: Path) -> Path:
    torch.save(state, path)
    return path


def agree(path: Path, side: int, features: torch.Tensor, logits: torch.Tensor) -> float:
    """Return the largest difference of features and logits; pixels are given as the harness gives them."""
    known = load_tower(str(path))
    assert known.label_classifier is not None
    assert known.tower.renormalise is not None
    ours = (images(side) - known.tower.renormalise.shift) / known.tower.renormalise.scale
    with torch.no_grad():
        embedded = known.tower.eval()(ours)
        text = F.linear(embedded, known.label_classifier.weight, known.label_classifier.bias)
    return max(float((embedded - features).abs().max()), float((text - logits).abs().max()))


@pytest.mark.parametrize("side", SIDES)
def test_features_and_logits_equal_corenets(
    recorded: tuple[str, State], side: int, tmp_path: Path
) -> None:
    """Recorded from its own modules; 160 px have 100 patches, whose positions are interpolated."""
    kind, state = recorded
    found = np.load(RECORDED)
    answered = (torch.from_numpy(found[f"{kind} {what} {side}"]) for what in ("features", "logits"))
    assert agree(saved(state, tmp_path / "vit.pt"), side, *answered) < 1e-4


@pytest.mark.skipif(not CHECKOUT, reason="CATLIP_BENCH_CORENET names no checkout of apple/corenet")
@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("size", ["tiny", "base"])
@pytest.mark.filterwarnings("default")
def test_features_equal_those_of_a_corenet_checkout(size: str, flash: bool, tmp_path: Path) -> None:
    """With the weights that CoreNet itself draws, and with ours, at both sizes."""
    model = corenet_vit(Path(CHECKOUT), size, flash=flash)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    differences = {}
    for weights in ("its own", "drawn"):
        if weights == "drawn":
            model.load_state_dict(drawn(shapes))
        path = saved(model.state_dict(), tmp_path / "vit.pt")
        for side in SIDES:
            differences[weights, side] = agree(path, side, *answers(model, side))
    assert max(differences.values()) < 1e-4, differences


def assert_has_weights(trunk: torch.nn.Module, state: State) -> None:
    """Assert that a trunk has the weights that a file of CoreNet's has under other names."""
    weights = convert_corenet_weights(state)
    assert not differing({name: trunk.state_dict()[name] for name in weights}, weights)


def test_training_checkpoint_loads_its_ema_weights(
    recorded: tuple[str, State], tmp_path: Path
) -> None:
    """And what RangeAugment learned is left out."""
    state = recorded[1]
    average = state | {"neural_augmentor.brightness._low": torch.zeros(())}
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    whole = {"epoch": 3, "best_metric": 0.5, "model_state_dict": other, "ema_state_dict": average}
    known = load_tower(str(saved(whole, tmp_path / "training.pt")))
    assert_has_weights(known.tower.trunk, state)


def test_image_encoder_of_corenets_clip_is_loaded(
    recorded: tuple[str, State], tmp_path: Path
) -> None:
    image_encoder = {
        f"image_encoder.{name}": value
        for name, value in recorded[1].items()
        if "classifier" not in name
    }
    others = {"logit_scale": torch.ones(()), "text_encoder.projection_layer": torch.ones(2, 2)}
    projection = {"image_encoder.classifier.proj": torch.ones(2, 2)}
    clip = load_tower(
        str(saved(image_encoder | projection | others, tmp_path / "clip_vit_base.pt"))
    )
    assert clip.name == "clip_vit_base.pt"
    assert_has_weights(clip.tower.trunk, recorded[1])


def test_the_classifier_is_kept_with_its_vocabulary(
    recorded: tuple[str, State], tmp_path: Path
) -> None:
    path = saved(recorded[1], tmp_path / "vit.pt")
    vocabulary = tmp_path / "vit.json"
    labels = ",".join(
        f'{{"key":"n{number}","name":"a","count":1,"captions":1}}'
        for number in range(1, 1 + CLASSES)
    )
    vocabulary.write_text(f'{{"rule":"corenet","captions":null,"labels":[{labels}]}}')
    rows = load_tower(str(path)).label_classifier
    assert rows is not None
    assert rows.keys == tuple(f"n{number}" for number in range(1, 1 + CLASSES))
    assert torch.equal(rows.weight, recorded[1]["classifier.weight"])
    vocabulary.write_bytes(vocabulary_path("pack-synsets").read_bytes())
    read_vocabulary.cache_clear()
    with pytest.raises(ValueError, match=r"vit\.pt: weight and bias of shapes .* for \d+ labels"):
        load_tower(str(path))


def test_initialisation_follows_the_released_recipe(
    recorded: tuple[str, State], tmp_path: Path
) -> None:
    known = load_tower(str(saved(recorded[1], tmp_path / "vit.pt")))
    initial = build_random_tower(known.architecture).state_dict()
    assert float(initial["trunk.transformer.resblocks.0.mlp.c_fc.weight"].std()) == pytest.approx(
        0.02, rel=0.05
    )
