"""Multi-label, segmentation and detection tasks of composed scenes, at sizes that two cores train in minutes."""

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.features.dense_tasks.dense_training import TransferTraining
from bench.features.dense_tasks.detection import Annotated, DetectionRecipe, DetectionTask, ObjectAnnotations
from bench.features.dense_tasks.multi_label_tasks import MultiLabelPart, MultiLabelTask
from bench.features.dense_tasks.scenes import CLASSES, Scene, Split, draw_scene, load_cutouts_and_photos
from bench.features.dense_tasks.segmentation import SegmentationRecipe, SegmentationTask
from bench.transfer.tasks.image_sources import ArrayImageSource
from models.dense_heads import DetectorHeadSizes

LABELS_SIDE = 64  # pixels, like the images of the pack
LABELS_COUNTS: dict[Split, int] = {"train": 1200, "validation": 400, "test": 1000}
SIDE = 96  # pixels: 8 x 8 patches of the tiny tower
COUNTS: dict[Split, int] = {"train": 1000, "validation": 200, "test": 400}

SEGMENTATION = SegmentationRecipe(
    side=SIDE,
    scales=(0.75, 1.25),
    channels=128,
    linear=TransferTraining(
        epochs=5, batch_size=32, micro_batch_size=32, learning_rates=(1e-3, 1e-2), train_tower=False
    ),
    deeplab=TransferTraining(epochs=10, batch_size=16, micro_batch_size=16, learning_rates=(3e-4, 1e-3)),
)
DETECTION = DetectionRecipe(
    side=SIDE,
    heads=DetectorHeadSizes(channels=64, box_features=256, mask_layers=2, proposals=100, regions=32),
    training=TransferTraining(
        epochs=10,
        batch_size=8,
        micro_batch_size=8,
        learning_rates=(1e-3,),
        milestones=(0.7, 0.9),
        clip_norm=1.0,
        layer_decay=0.9,
    ),
)


@functools.cache
def scene_labels(cache: Path) -> MultiLabelTask:
    """Return a multi-label task: which of eight classes are in a scene of one to three objects."""
    train, validation, test = map(_make_multi_label_part, _draw_scenes(LABELS_COUNTS, LABELS_SIDE, cache))
    return MultiLabelTask("scenes", CLASSES, train, validation, test)


def scenes_segmentation(cache: Path) -> SegmentationTask:
    """Return a segmentation task; the photo is the class "background"."""
    train, validation, test = ([(scene.rgb, scene.classes) for scene in part] for part in _draw_dense_scenes(cache))
    return SegmentationTask("scenes-segmentation", ("background", *CLASSES), train, validation, test, SEGMENTATION)


def scenes_detection(cache: Path) -> DetectionTask:
    """Return a detection task."""
    train, validation, test = ([_annotate(scene) for scene in part] for part in _draw_dense_scenes(cache))
    return DetectionTask("scenes-detection", CLASSES, train, validation, test, DETECTION)


@functools.cache
def _draw_dense_scenes(cache: Path) -> list[list[Scene]]:
    """Draw the scenes that segmentation and detection share, once per process."""
    return _draw_scenes(COUNTS, SIDE, cache)


def _draw_scenes(counts: Mapping[Split, int], side: int, cache: Path) -> list[list[Scene]]:
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return [
            list(pool.map(partial(draw_scene, split, side, load_cutouts_and_photos(split, cache)), range(count)))
            for split, count in counts.items()
        ]


def _make_multi_label_part(part: list[Scene]) -> MultiLabelPart:
    labels = torch.stack([scene.present for scene in part]).numpy()
    return MultiLabelPart(ArrayImageSource(torch.stack([scene.rgb for scene in part])), labels, np.zeros_like(labels))


def _annotate(scene: Scene) -> Annotated:
    crowd = torch.zeros(len(scene.labels), dtype=torch.bool)
    return scene.rgb, ObjectAnnotations(scene.boxes, scene.labels, scene.masks, crowd)
