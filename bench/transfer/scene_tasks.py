"""Segmentation and detection of scenes, at a size that two cores train in minutes."""

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.transfer.average_precision import Objects
from bench.transfer.cutouts import CLASSES
from bench.transfer.descent import Descent
from bench.transfer.detection import Annotated, DetectionTask
from bench.transfer.detection import Recipe as DetectionRecipe
from bench.transfer.scenes import Scenes, scenes
from bench.transfer.segmentation import Pair, SegmentationTask
from bench.transfer.segmentation import Recipe as SegmentationRecipe
from models.simple_pyramid import Heads

SIDE = 96  # pixels: 8 x 8 patches of the tiny tower
COUNTS = (1500, 300, 500)  # of scenes to train on, to choose on and to test

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


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """Scenes with the class of each pixel, 0 where the photo shows."""

    scenes: Scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, row: int) -> Pair:
        scene = self.scenes.scene(row)
        return scene.rgb, scene.classes


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Scenes with the objects in them."""

    scenes: Scenes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, row: int) -> Annotated:
        scene = self.scenes.scene(row)
        crowd = torch.zeros(len(scene.labels), dtype=torch.bool)
        return scene.rgb, Objects(scene.boxes, scene.labels, scene.masks, crowd)


def scenes_segmentation(cache: Path) -> SegmentationTask:
    """Return scenes to segment, the photo as a class of its own."""
    train, validation, test = map(Masked, _scenes(cache))
    return SegmentationTask("scenes-segmentation", ("background", *CLASSES), train, validation, test, SEGMENTATION)


def scenes_detection(cache: Path) -> DetectionTask:
    """Return scenes whose objects are to be found."""
    train, validation, test = map(Annotations, _scenes(cache))
    return DetectionTask("scenes-detection", CLASSES, train, validation, test, DETECTION)


def _scenes(cache: Path) -> tuple[Scenes, Scenes, Scenes]:
    train, validation, test = COUNTS
    return scenes("train", train, SIDE, cache), scenes("validation", validation, SIDE, cache), scenes("test", test, SIDE, cache)
