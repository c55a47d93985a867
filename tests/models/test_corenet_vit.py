"""CoreNet's ViT here computes what CoreNet computes from the same weights."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.labels.vocabulary import find_vocabulary_path, read_vocabulary
from bench.towers.tower_from import build_random_init_tower, load_tower
from models.corenet_vit import convert_corenet_weights
from models.image_tower import Renormalise
from tests.tensors import differing

# Names, shapes, features and logits of CoreNet's own tiny ViT at 1aa3acd, for weights and images that are drawn here;
# `git show b03e254c:tests/models/corenet_checkout.py` wrote it.
RECORDED = Path(__file__).with_name("corenet-vit.npz")
SIDES = (224, 160)  # pixels: with its positions, and with interpolated ones
CLASSES = 12
KINDS = ("flash", "naive")  # attention of two kinds, with weights of two names
State = dict[str, torch.Tensor]


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Draw weights for names and shapes, the same everywhere: numpy's RandomState is frozen.

    Norms scale by about 1, variances are positive.
    """
    draw = np.random.RandomState(0)
    weights = {}
    for name, shape in shapes.items():
        spread = 0.3 if len(shape) == 1 else 0.05
        value = spread * draw.standard_normal(shape) + (len(shape) == 1 and name.endswith("weight"))
        if name.endswith("running_var"):
            value = 1 + np.abs(value)
        counts = name.endswith("num_batches_tracked")
        weights[name] = (
            torch.tensor(7) if counts else torch.from_numpy(np.asarray(value, dtype=np.float32))
        )
    return weights


def images(side: int) -> torch.Tensor:
    """Draw two images of pixels from 0 to 1."""
    pixels = np.random.RandomState(side).random_sample((2, 3, side, side))
    return torch.from_numpy(pixels.astype(np.float32))


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


@pytest.mark.parametrize("side", SIDES)
def test_features_and_logits_equal_corenets(
    recorded: tuple[str, State], side: int, tmp_path: Path
) -> None:
    """Recorded from its own modules; 160 px have 100 patches, whose positions are interpolated."""
    kind, state = recorded
    answers = np.load(RECORDED)
    known = load_tower(str(saved(state, tmp_path / "vit.pt")))
    assert known.label_classifier is not None
    assert isinstance(known.tower.renormalise, Renormalise)
    ours = (images(side) - known.tower.renormalise.shift) / known.tower.renormalise.scale
    with torch.no_grad():
        features = known.tower.eval()(ours)
        logits = F.linear(features, known.label_classifier.weight, known.label_classifier.bias)
    for name, found in (("features", features), ("logits", logits)):
        expected = torch.from_numpy(answers[f"{kind} {name} {side}"])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


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
    vocabulary.write_bytes(find_vocabulary_path("shipped-synsets").read_bytes())
    read_vocabulary.cache_clear()
    with pytest.raises(ValueError, match=r"vit\.pt: weight and bias of shapes .* for \d+ labels"):
        load_tower(str(path))


def test_initialisation_follows_the_released_recipe(
    recorded: tuple[str, State], tmp_path: Path
) -> None:
    known = load_tower(str(saved(recorded[1], tmp_path / "vit.pt")))
    initial = build_random_init_tower(known.architecture).state_dict()
    assert float(initial["trunk.transformer.resblocks.0.mlp.c_fc.weight"].std()) == pytest.approx(
        0.02, rel=0.05
    )
