"""Images and towers that train in a second."""

import numpy as np
import torch

from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.image_sources import composite_on_white
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask
from models.image_tower import ImageTower, build_image_tower


def toy_tower() -> ImageTower:
    """A vision transformer of a few small blocks."""
    return build_image_tower("test_vit", 32, 0)


def toy_part(count: int, seed: int = 0, *, separable: bool = True) -> LabelledImages:
    """Two classes told by the brightness of their images, or by nothing."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    shown = labels if separable else draw.integers(0, 2, count)
    levels = torch.from_numpy((shown * 180 + draw.integers(0, 60, count)).astype(np.uint8))
    pixels = levels.view(-1, 1, 1, 1).repeat(1, 4, 64, 64)
    pixels[:, 3] = 255
    return LabelledImages(composite_on_white(pixels), labels)


def toy_task(*counts: int, separable: bool = True) -> SingleLabelTask:
    """A task with so many images in each part."""
    parts = (toy_part(count, seed=seed, separable=separable) for seed, count in enumerate(counts))
    return SingleLabelTask("toy", ("dark", "bright"), *parts)


def toy_subject(tower: ImageTower) -> FeatureExtractor:
    """A tower that is trained on a task, so that nothing asks for its features."""
    cpu = torch.device("cpu")
    return FeatureExtractor(
        name="toy", embed=lambda _: np.zeros((0, 1)), tower=tower, device=cpu, experiment=None
    )
