"""Towers from other people's files: what is trained elsewhere computes here what it computes there."""

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from open_clip.model import resize_pos_embed
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from bench.experiment.experiments import EXPERIMENTS
from bench.towers.head_file import read_label_classifier, save_head_beside_tower, save_weights
from bench.towers.provenance import TowerProvenance
from bench.towers.tower_from import build_random_init_tower, load_tower, load_tower_and_provenance
from bench.train.build import build_untrained_tower
from tests.tensors import differing

TINY = "catlip-bench-tiny"  # one of open_clip's models here
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return open_clip.create_model(TINY).eval()


def images(side: int = 48) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def features(model: Any, side: int = 48) -> torch.Tensor:
    """What open_clip's image tower gives before its projection."""
    projection, model.visual.proj = model.visual.proj, None
    try:
        found: torch.Tensor = model.visual(images(side))
    finally:
        model.visual.proj = projection
    return found


def written(state: State, path: Path, form: str) -> Path:
    """A state dict in one of the ways that people keep it."""
    if form == "safetensors":
        save_file(state, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    if "module" in form:
        state = {f"module.{name}": value for name, value in state.items()}
    checkpoint = {"epoch": 1, "state_dict": state, "optimizer": {"lr": 0.1}}
    torch.save(checkpoint if "checkpoint" in form else state, path)
    return path


@pytest.mark.parametrize(
    "form", ["safetensors", "state dict", "checkpoint", "checkpoint of module", "image tower"]
)
def test_named_open_clip_model_with_its_file_gives_open_clips_features(
    form: str, model: Any, tmp_path: Path
) -> None:
    state = model.visual.state_dict() if form == "image tower" else model.state_dict()
    known = load_tower(f"{TINY}={written(state, tmp_path / 'x.pt', form)}")
    with torch.no_grad():
        torch.testing.assert_close(
            known.tower.eval()(images()), features(model), rtol=1e-5, atol=1e-5
        )


def test_position_embeddings_are_resampled_as_open_clip_does(model: Any, tmp_path: Path) -> None:
    state = open_clip.create_model(TINY, force_image_size=72).state_dict()
    known = load_tower(f"{TINY}={written(state, tmp_path / 'x.pt', 'state dict')}")
    theirs = copy.deepcopy(model)
    resize_pos_embed(state, theirs)
    theirs.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(
            known.tower.eval()(images()), features(theirs), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("side", [48, 224])
def test_named_timm_model_with_its_file_gives_timms_features(side: int, tmp_path: Path) -> None:
    """Its classifier is left out, its pixels are normalised as its own, its positions resampled by its own code."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=side, num_classes=7).eval()
    path = written(model.state_dict(), tmp_path / "x.pth", "state dict")
    known = load_tower(f"vit_tiny_patch16_224={path}")
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=7).eval()
    timm.models.load_checkpoint(theirs, str(path), filter_fn=checkpoint_filter_fn)
    pixels = torch.rand(2, 3, 224, 224)
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    with torch.no_grad():
        # Mean and std are .5.
        expected = theirs.forward_head(theirs.forward_features(pixels * 2 - 1), pre_logits=True)
        torch.testing.assert_close(
            known.tower.eval()((pixels - mean) / std), expected, rtol=1e-4, atol=1e-4
        )


class Hostile:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("way", ["torch", "pickle", "old pickle", "within"])
def test_a_hostile_pickle_is_refused_and_not_executed(way: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", tmp_path / "x.pt"
    if "pickle" in way:
        path.write_bytes(pickle.dumps(Hostile(mark), 2 if "old" in way else 4))
    else:
        torch.save(
            {"a": torch.zeros(2), "b": Hostile(mark)} if way == "within" else Hostile(mark), path
        )
    for subject in (str(path), f"{TINY}={path}", f"vit_tiny_patch16_224={path}"):
        with pytest.raises(
            ValueError, match=r"x\.pt is damaged or holds more than tensors"
        ) as refused:
            load_tower(subject)
        assert "\n" not in str(refused.value)
    assert not mark.exists()
    # It is a real one.
    pickle.loads(path.read_bytes()) if "pickle" in way else torch.load(path, weights_only=False)
    assert mark.exists()


def test_weights_of_another_architecture_are_refused_with_what_differs(
    model: Any, tmp_path: Path
) -> None:
    tiny = written(model.state_dict(), tmp_path / "tiny.pt", "state dict")
    with pytest.raises(ValueError, match=r"does not fit vit_tiny_patch16_224: .*Missing key"):
        load_tower(f"vit_tiny_patch16_224={tiny}")
    with pytest.raises(ValueError, match=r"name its model: NAME=\S*tiny.pt"):
        load_tower(str(tiny))


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("ViT-B-32=nowhere.pt", "no file 'nowhere.pt' with weights of ViT-B-32"),
        ("nowhere.pt", "no tower file 'nowhere.pt'"),
    ],
)
def test_file_that_is_no_tower_is_refused(subject: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load_tower(subject)


@pytest.mark.parametrize("name", [TINY, "vit_tiny_patch16_224"])
def test_untrained_copy_has_other_weights_in_the_same_architecture(
    name: str, tmp_path: Path
) -> None:
    """The same at every call, whatever was drawn before; pixels are shown to it as to the trained one."""
    library: Any = open_clip if name == TINY else timm
    state = library.create_model(name).state_dict()
    known = load_tower(f"{name}={written(state, tmp_path / 'x.pt', 'state dict')}")
    first = build_random_init_tower(known.architecture)
    torch.rand(3)
    again = build_random_init_tower(known.architecture).state_dict()
    assert not differing(again, first.state_dict())
    trained = known.tower.state_dict()
    shapes = {name: value.shape for name, value in trained.items()}
    assert {name: value.shape for name, value in again.items()} == shapes
    matrices = {name for name, value in trained.items() if value.ndim > 1}
    assert matrices <= {*differing(again, trained)}
    assert type(first.renormalise) is type(known.tower.renormalise)
    assert isinstance(first.renormalise, nn.Identity) == (name == TINY)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda weight: weight * torch.nan, "class_embedding are not finite"),
        (lambda weight: weight.int(), "class_embedding are not finite floating"),
    ],
)
def test_weights_that_are_not_finite_or_no_floating_point_numbers_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], text: str, tmp_path: Path
) -> None:
    experiment = EXPERIMENTS["catlip-tiny"]
    state = {
        name: change(value)
        for name, value in build_untrained_tower(experiment).state_dict().items()
    }
    facts = TowerProvenance(experiment=experiment, images=1, budgets=()).to_metadata()
    save_weights(state, tmp_path / "x.safetensors", facts)
    with pytest.raises(ValueError, match=rf"does not hold this tower's weights: .*{text}"):
        load_tower_and_provenance(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("weight", "bias", "text"),
    [
        (torch.zeros(2, 8), torch.tensor([0.0, torch.nan]), "biases are not finite"),
        (torch.zeros(2, 8, dtype=torch.int8), torch.zeros(2), "weights are not finite floating"),
        (torch.zeros(2, 8), torch.zeros(3), r"of shapes \[2, 8\] and \[3\] for 2 labels"),
    ],
)
def test_classifier_that_does_not_fit_its_labels_is_refused(
    weight: torch.Tensor, bias: torch.Tensor, text: str, tmp_path: Path
) -> None:
    made = TowerProvenance(experiment=EXPERIMENTS["catlip-tiny"], images=1, budgets=())
    state = {"head.weight": weight, "head.bias": bias}
    save_head_beside_tower(state, tmp_path / "x.safetensors", made, ["n1", "n2"])
    with pytest.raises(ValueError, match=rf"x\.head holds no classifier: .*{text}"):
        read_label_classifier(tmp_path / "x.safetensors")
