"""Segmentation and detection of scenes, at a size that two cores train in minutes."""

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench.transfer.detection.average_precision import Objects
from bench.transfer.detection.detection import Annotated, DetectionTask
from bench.transfer.detection.detection import Recipe as DetectionRecipe
from bench.transfer.segmentation.segmentation import Pair, SegmentationTask
from bench.transfer.segmentation.segmentation import Recipe as SegmentationRecipe
from bench.transfer.tasks.cutouts import CLASSES, Split
from bench.transfer.tasks.scenes import Scene, scenes
from bench.transfer.transfer_training import Descent
from models.simple_pyramid import Heads

SIDE = 96  # pixels: 8 x 8 patches of the tiny tower
COUNTS: dict[Split, int] = {"train": 1000, "validation": 200, "test": 400}

SEGMENTATION = SegmentationRecipe(
    side=SIDE,
    scales=(0.75, 1.25),
    channels=128,
    linear=Descent(epochs=5, batch_size=32, at_once=32, learning_rates=(1e-3, 1e-2), train_tower=False),
    deeplab=Descent(epochs=10, batch_size=16, at_once=16, learning_rates=(3e-4, 1e-3)),
)
DETECTION = DetectionRecipe(
    side=SIDE,
    heads=Heads(channels=64, box_features=256, mask_layers=2, proposals=100, regions=32),
    descent=Descent(
        epochs=10, batch_size=8, at_once=8, learning_rates=(1e-3,), falls=(0.7, 0.9), clip_norm=1.0, layer_decay=0.9
    ),
)


def scenes_segmentation(cache: Path) -> SegmentationTask:
    """Return scenes to segment, the photo as a class of its own."""
    train, validation, test = ([_masked(scene) for scene in part] for part in _drawn(cache))
    return SegmentationTask("scenes-segmentation", ("background", *CLASSES), train, validation, test, SEGMENTATION)


def scenes_detection(cache: Path) -> DetectionTask:
    """Return scenes whose objects are to be found."""
    train, validation, test = ([_annotated(scene) for scene in part] for part in _drawn(cache))
    return DetectionTask("scenes-detection", CLASSES, train, validation, test, DETECTION)


@functools.cache
def _drawn(cache: Path) -> list[list[Scene]]:
    """Draw all scenes, once a process."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return [
            list(pool.map(scenes(split, count, SIDE, cache).scene, range(count))) for split, count in COUNTS.items()
        ]


def _masked(scene: Scene) -> Pair:
    return scene.rgb, scene.classes


def _annotated(scene: Scene) -> Annotated:
    crowd = torch.zeros(len(scene.labels), dtype=torch.bool)
    return scene.rgb, Objects(scene.boxes, scene.labels, scene.masks, crowd)
