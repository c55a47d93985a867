"""Towers of several families, each at a small image side; one training step, and what is exported after it."""

from pathlib import Path
from typing import Any

import open_clip
import timm
import torch

from bench.data.stream import Batch
from bench.data.targets import CaptionsWithRows
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.method import METHODS
from bench.towers.export import export_tower
from bench.towers.provenance import TowerProvenance
from bench.towers.tower_from import LoadedTower
from bench.train.step import make_train_step
from models.image_tower import ImageTower

open_clip.add_model_config(Path(__file__).parents[1] / "configs")

QUICK = {  # of a few layers
    **dict.fromkeys(("test_vit", "test_vit2", "test_vit_relpos"), 32),
    **dict.fromkeys(
        ("test_convnext", "test_resnet", "test_mambaout", "mobilenetv4_conv_small_035"), 64
    ),
}


def experiment_of(name: str, tower: str, side: int) -> Experiment:
    """Return the tiny experiment of a method with this tower, for two images a step."""
    smaller = {
        "batch_size": 2,
        "warmup_images": 0,
        "teacher": "test_resnet",
        "tower": tower,
        "image_size": side,
    }
    return change(EXPERIMENTS[f"{name}-tiny"], **smaller)


def take_step(experiment: Experiment, tower: ImageTower) -> None:
    """Train a tower for one step; the loss is finite, and each trained weight gets a finite gradient."""
    method = METHODS[experiment.method]
    torch.manual_seed(0)
    model: Any = method.build_model(tower, experiment)
    step: Any = make_train_step(experiment, model, method, "fp32", compiled=False)
    captions = CaptionsWithRows.from_texts(["a red apple", "two dogs and a cat"])
    side = experiment.image.image_size
    loss = step.forward(
        Batch(torch.randn(2, 3, side, side), method.make_target_function(experiment)(captions))
    )
    step.backward(loss)
    trained = {name: one.grad for name, one in tower.named_parameters() if one.requires_grad}
    assert not [
        name
        for name, gradient in trained.items()
        if gradient is None or not gradient.isfinite().all()
    ]
    assert step.update(loss.detach(), 1e-3).isfinite()


def provenance_of(experiment: Experiment) -> TowerProvenance:
    """Return the metadata of a tower that saw a batch."""
    return TowerProvenance(experiment=experiment, images=2, budgets=())


def assert_timm_computes_the_same(loaded: LoadedTower, folder: Path) -> None:
    """Export a tower and load it by timm alone."""
    export_tower(loaded, folder)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    tower = loaded.tower.eval()
    images = torch.randn(
        2, tower.channels, *2 * (tower.image_size,), generator=torch.Generator().manual_seed(1)
    )
    with torch.no_grad():
        torch.testing.assert_close(model(images), tower(images), rtol=1e-4, atol=1e-4)
