"""Towers from a file, a folder, or the name of a trained experiment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from torch import Tensor, nn

from bench.console.console import PROGRAM
from bench.environment.files import decode_json, prefix_errors, read_limited
from bench.environment.seeds import TOWER, derive_seed
from bench.experiment.experiments import EXPERIMENTS
from bench.labels.vocabulary import read_vocabulary
from bench.towers.head_file import (
    LabelClassifier,
    TextEncoder,
    make_label_classifier,
    read_label_classifier,
    read_text_encoder,
)
from bench.towers.provenance import Provenance, is_trained_here, latest_towers, read_provenance
from models import corenet_vit, open_clip_config
from models.checkpoint import (
    SUFFIXES,
    adapt_to_trunk,
    describe_weights,
    load_strictly,
    load_tower_weights,
    read_weights,
)
from models.image_tower import (
    PIXEL_STATISTICS,
    ImageTower,
    build_image_tower,
    build_trunk,
    make_renormalisation,
    published_image_size,
)

FOLDER_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
FOLDER_CONFIG = "open_clip_config.json"
CORENET_SIZE = 224  # pixels of its images
MAX_LAYERS = 1000  # that a configuration may name
# Weights, 256 MiB, that are allocated although a file is too small for them.
MAX_UNCHECKED_WEIGHTS = 2**26
VOCABULARY_SUFFIXES = (".pkl", ".json")
ACCEPTED_TOWERS = (
    f"accepted are a tower file of `{PROGRAM} train`, an experiment, a file of CoreNet, a folder of open_clip, or "
    "NAME=FILE with a model of open_clip or timm"
)


@dataclass(frozen=True, slots=True)
class LoadedTower:
    """A tower and its origin."""

    tower: ImageTower
    name: str  # in tables
    architecture: str
    provenance: Provenance | None = None  # None if trained elsewhere
    label_classifier: LabelClassifier | None = None  # the classifier that was trained with it
    build: Callable[[], ImageTower] | None = (
        None  # builds the untrained architecture, if it was trained elsewhere
    )
    file: Path | None = None  # of a tower that was trained here

    def read_text_encoder(self) -> TextEncoder | None:
        """Read the text tower that was trained with it, and its vocabulary; None if there was none, or none was kept.

        Raises ValueError if the vocabulary is gone.
        """
        return (
            read_text_encoder(self.tower, self.file, self.provenance)
            if self.file and self.provenance
            else None
        )


def load_tower(subject: str, results: Path = Path("results")) -> LoadedTower:
    """Return a tower with its trained weights.

    `subject` is a tower file of `catlip-bench train`; an experiment, of whose newest training in `results` the tower
    with the most images is taken; a file of CoreNet's CatLIP; a folder in open_clip's layout (`open_clip_config.json`
    beside the weights); or `NAME=FILE`, a model of open_clip or timm and its weights. Position embeddings of weights
    for another image size are resampled. The labels of a CoreNet classifier are in the .pkl or .json file with the name
    of the weights. Nothing in a file is executed.

    Raises ValueError for another subject, or weights of another architecture.
    """
    path = Path(subject)
    if path.is_dir():
        return _load_open_clip_folder(path)
    if is_trained_here(path):
        return _load_own_file(path)
    if path.is_file():
        state = corenet_vit.keep_image_encoder(read_weights(path))
        if corenet_vit.STEM in state:
            return _load_corenet(path, state)
        raise ValueError(
            f"{path} does not name its architecture; name its model: NAME={path}. It has {describe_weights(state)}"
        )
    name, equals, file = subject.partition("=")
    if equals and "[" not in name:  # "[" begins the settings of an experiment
        return _load_weights_as_architecture(name, Path(file))
    if path.suffix in SUFFIXES:
        raise ValueError(f"no file {subject!r}")
    if subject not in EXPERIMENTS and "[" not in subject:
        raise ValueError(f"{subject!r} is no tower: {ACCEPTED_TOWERS}")
    newest = max(
        latest_towers(results, subject),
        key=lambda tower: (read_provenance(tower).images, tower.name),
    )
    return _load_own_file(newest)


def load_trained_tower(path: Path) -> tuple[ImageTower, Provenance]:
    """Return a tower that was trained here, and its metadata; ValueError for a file without it."""
    provenance = read_provenance(path)
    image = provenance.experiment.image
    seed = derive_seed(provenance.experiment.seed, TOWER)
    build = partial(
        build_image_tower,
        image.tower,
        image.image_size,
        seed,
        embedding_channels=image.embedding_channels,
        pooling=image.pooling,
        pixel_normalisation=image.pixel_normalisation,
    )
    _require_file_can_hold(path, _count_weights(build))
    tower = build()
    if not next(tower.parameters()).is_meta:  # FLOPs are counted without weights
        load_tower_weights(tower, path)
    return tower, provenance


def build_untrained_copy(loaded: LoadedTower) -> ImageTower:
    """Return the random-init baseline of a tower that was trained elsewhere, with the same weights at every call."""
    assert loaded.build is not None, (
        f"{loaded.name} was trained here, from weights that its seed gives"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, TOWER))
        tower = loaded.build()
    tower.pixels = loaded.tower.pixels
    return tower


def _load_own_file(path: Path) -> LoadedTower:
    tower, provenance = load_trained_tower(path)
    return LoadedTower(
        tower,
        name=provenance.experiment.name,
        architecture=provenance.experiment.image.tower,
        provenance=provenance,
        label_classifier=read_label_classifier(path),
        file=path,
    )


def _load_open_clip_folder(folder: Path) -> LoadedTower:
    try:
        description = decode_json(read_limited(folder / FOLDER_CONFIG), dict)
        config = description["model_cfg"]
        preprocessing = description.get("preprocess_cfg", {})
        _require_few_layers(config["vision_cfg"])
        size = config["vision_cfg"]["image_size"]
        build = partial(_build_tower, partial(build_trunk, config, size), size)
        num_weights = _count_weights(build)
    except Exception as error:  # noqa: BLE001 - open_clip documents no exceptions for invalid configurations
        reason = (
            f"it has no {error}"
            if isinstance(error, KeyError)
            else str(error) or type(error).__name__
        )
        raise ValueError(
            f"{folder} is no folder of open_clip's: {FOLDER_CONFIG}: {reason}"
        ) from None
    file = next((folder / name for name in FOLDER_WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise ValueError(f"{folder} holds none of {', '.join(FOLDER_WEIGHTS)}")
    _require_file_can_hold(file, num_weights)
    tower = build()
    _load_trunk(tower, read_weights(file), file, folder.name)
    mean = preprocessing.get("mean", open_clip.OPENAI_DATASET_MEAN)
    std = preprocessing.get("std", open_clip.OPENAI_DATASET_STD)
    tower.pixels = make_renormalisation(mean, std)
    return LoadedTower(tower, folder.name, architecture=folder.name, build=build)


def _load_weights_as_architecture(name: str, file: Path) -> LoadedTower:
    is_corenet = name.startswith(corenet_vit.PREFIX)
    config = open_clip_config(name)
    if config is None and not is_corenet and not timm.is_model(name):
        build_image_tower(name, CORENET_SIZE, 0)  # raises an error that suggests a name
    if not file.is_file():
        raise ValueError(f"no file {str(file)!r} with weights of {name}")
    state = read_weights(file)
    if is_corenet:
        return _load_corenet(file, state, name)
    build = partial(build_image_tower, name, published_image_size(name), derive_seed(0, TOWER))
    tower = build()
    _load_trunk(tower, state, file, name)
    if config is None:
        timm_config: Any = timm.get_pretrained_cfg(name)
        tower.pixels = make_renormalisation(timm_config.mean, timm_config.std)
    else:
        tower.pixels = make_renormalisation(*_published_mean_and_std(name))
    return LoadedTower(tower, f"{name}={file.name}", architecture=name, build=build)


def _load_corenet(file: Path, state: Mapping[str, Tensor], name: str = "") -> LoadedTower:
    """Read a file of CoreNet, whose images have pixels from 0 to 1 without normalisation."""
    if name:
        build_corenet = partial(corenet_vit.corenet_vit, name)
    else:
        build_corenet = partial(corenet_vit.CorenetViT, *corenet_vit.infer_sizes(state))
    build = partial(_build_tower, build_corenet, CORENET_SIZE)
    _require_file_can_hold(file, _count_weights(build))
    tower = build()
    weights = corenet_vit.convert_corenet_state(state)
    load_strictly(tower.trunk, weights, f"{file} does not fit {name or 'a ViT of CoreNet'}")
    tower.pixels = make_renormalisation(*PIXEL_STATISTICS["none"])
    return LoadedTower(
        tower,
        name=file.name,
        architecture=name or corenet_vit.describe_sizes(corenet_vit.infer_sizes(state)),
        label_classifier=_corenet_classifier(file, state),
        build=build,
    )


def _corenet_classifier(file: Path, state: Mapping[str, Tensor]) -> LabelClassifier | None:
    """Return the classifier in a file of CoreNet, with the labels of the vocabulary beside it."""
    if "classifier.weight" not in state:
        return None
    if "classifier.bias" not in state:
        raise ValueError(f"{file} has classifier.weight and no classifier.bias")
    candidates = [file.with_suffix(suffix) for suffix in VOCABULARY_SUFFIXES]
    vocabulary = next((path for path in candidates if path.is_file()), None)
    with prefix_errors(f"{file} with the vocabulary {vocabulary}" if vocabulary else file):
        keys = read_vocabulary(str(vocabulary)).keys if vocabulary else ()
        return make_label_classifier(state["classifier.weight"], state["classifier.bias"], keys)


def _count_weights(build: Callable[[], nn.Module]) -> int:
    """Return the number of weights of an architecture, which are not allocated."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in build().parameters())


def _require_file_can_hold(file: Path, num_weights: int) -> None:
    """Raise ValueError if a file is too small for a large architecture; loading names what a small one lacks."""
    file_bytes = file.stat().st_size
    if file_bytes < num_weights and num_weights > MAX_UNCHECKED_WEIGHTS:
        raise ValueError(
            f"{file} has {file_bytes:,} bytes, too few for the {num_weights:,} weights that it describes"
        )


def _require_few_layers(vision: dict[str, Any]) -> None:
    """Raise ValueError for a configuration with a number of layers that no tower has."""
    layers = vision.get("layers", 0)
    num_layers = sum(layers) if isinstance(layers, list) else layers
    if num_layers > MAX_LAYERS:
        raise ValueError(f"layers must be {MAX_LAYERS} at most, got {layers}")


def _build_tower(build_trunk: Callable[[], nn.Module], image_size: int) -> ImageTower:
    return ImageTower(build_trunk(), image_size)


def _load_trunk(tower: ImageTower, state: Mapping[str, Tensor], file: Path, name: str) -> None:
    load_strictly(tower.trunk, adapt_to_trunk(state, tower.trunk), f"{file} does not fit {name}")


def _published_mean_and_std(name: str) -> tuple[Any, Any]:
    """Return the mean and deviation that all published weights of an open_clip model share, or else the defaults."""
    configs = [
        open_clip.get_pretrained_cfg(name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(name)
    ]
    statistics = {
        (tuple(config["mean"]), tuple(config["std"])) for config in configs if "mean" in config
    }
    return (
        statistics.pop()
        if len(statistics) == 1
        else (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
