"""Scenes as tasks of segmentation and detection, from the pack to figures, at the smallest size."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.features.dense_tasks import scene_tasks
from bench.features.dense_tasks.detection import score_detection
from bench.features.dense_tasks.scenes import CLASSES
from bench.features.dense_tasks.segmentation import score_segmentation
from bench.transfer.feature_extractor import FeatureExtractor
from models.dense_heads import DetectorHeadSizes
from models.image_tower import build_image_tower

COUNTS = {"train": 6, "validation": 3, "test": 5}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    scene_tasks._draw_dense_scenes.cache_clear()
    monkeypatch.setattr(scene_tasks, "COUNTS", COUNTS)
    yield
    scene_tasks._draw_dense_scenes.cache_clear()


def subject() -> FeatureExtractor:
    tower = build_image_tower("catlip-bench-tiny", 48, 0)
    return FeatureExtractor(name="toy", embed=len, tower=tower, device=torch.device("cpu"), experiment=None)  # type: ignore[arg-type]


def require_apart(task: Any) -> None:
    """So many scenes in each part, and none in two."""
    parts = [[rgb.numpy().tobytes() for rgb, _ in part] for part in (task.train, task.validation, task.test)]
    assert [len({*part}) for part in parts] == list(COUNTS.values())
    assert all({*one}.isdisjoint(other) for one, other in combinations(parts, 2))


def test_scenes_can_be_segmented(results: Path) -> None:
    task = scene_tasks.scenes_segmentation(results / "cache")
    require_apart(task)
    assert task.classes == ("background", *CLASSES)
    once = {"epochs": 1, "batch_size": 4, "micro_batch_size": 4}
    recipe = replace(
        task.recipe,
        channels=8,
        linear=replace(task.recipe.linear, **once),
        deeplab=replace(task.recipe.deeplab, **once),
    )
    linear, deeplab, best = score_segmentation(subject(), replace(task, recipe=recipe))
    assert (linear.task, linear.num_train, linear.num_test) == ("scenes-segmentation", 9, 5)
    assert 0 <= min(linear.value, deeplab.value) <= max(linear.value, deeplab.value) < best.value < 1
    assert 0 < best.baseline < best.value


def test_scene_objects_can_be_detected(results: Path) -> None:
    task = scene_tasks.scenes_detection(results / "cache")
    require_apart(task)
    assert task.classes == CLASSES
    heads = DetectorHeadSizes(channels=16, box_features=32, mask_layers=1, proposals=20, regions=8)
    recipe = replace(
        task.recipe, heads=heads, training=replace(task.recipe.training, epochs=1, batch_size=3, micro_batch_size=3)
    )
    found = score_detection(subject(), replace(task, recipe=recipe))
    assert [one.name for one in found] == ["box AP", "box AP50", "mask AP", "mask AP50"]
    assert {(one.task, one.num_train, one.num_test) for one in found} == {("scenes-detection", 9, 5)}
    assert all(0 <= one.value <= 1 and 0 <= one.baseline <= 1 for one in found)


def test_both_tasks_hold_the_same_scenes(results: Path) -> None:
    """A pixel has the class of the object whose mask it is in."""
    masked, found = scene_tasks.scenes_segmentation(results / "cache"), scene_tasks.scenes_detection(results / "cache")
    for (rgb, classes), (same, objects) in zip(masked.test, found.test, strict=True):
        assert torch.equal(rgb, same)
        assert torch.equal(classes.long(), (objects.masks.long() * objects.labels[:, None, None]).sum(0))
