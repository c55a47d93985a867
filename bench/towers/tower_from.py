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

from bench.environment.files import decode_json, read_limited
from bench.environment.seeds import TOWER, seed_for
from bench.experiments import EXPERIMENTS
from bench.labels.vocabulary import read_vocabulary
from bench.towers.head_file import LabelClassifier, TextEncoder, read_label_classifier, read_text_encoder
from bench.towers.made import Provenance, is_made_here, latest_towers, read_provenance
from bench.towers.trained import load_trained_tower
from models import corenet_vit, open_clip_config
from models.checkpoint import SUFFIXES, load_exactly, read_weights
from models.external_weights import trunk_weights
from models.identify_weights import identify
from models.image_tower import ImageTower, build_image_tower, build_trunk, make_renormalisation

FOLDER_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
FOLDER_CONFIG = "open_clip_config.json"
VOCABULARY_SUFFIXES = (".pkl", ".json")
ACCEPTED_TOWERS = (
    "accepted are a tower file of `catlip-bench train`, an experiment, a file of CoreNet, a folder of open_clip, or "
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
    text_encoder: TextEncoder | None = None  # the text tower that was trained with it
    build: Callable[[], ImageTower] | None = None  # builds the untrained architecture, if it was trained elsewhere


def load_tower(
    subject: str, results: Path = Path("results"), image_size: int | None = None, vocabulary: str | None = None
) -> LoadedTower:
    """Return a tower with its trained weights.

    `subject` is a tower file of `catlip-bench train`; an experiment, of whose newest training in `results` the tower
    with the most images is taken; a file of CoreNet's CatLIP; a folder in open_clip's layout (`open_clip_config.json`
    beside the weights); or `NAME=FILE`, a model of open_clip or timm and its weights. For an `image_size` other than
    the tower's own, position embeddings are resampled. `vocabulary` names the labels of a CoreNet classifier; by
    default it is the .pkl or .json file with the name of the weights. Nothing in a file is executed.

    Raises ValueError for another subject, or weights of another architecture.
    """
    path = Path(subject)
    if path.is_dir():
        return _from_folder(path, image_size)
    if path.is_file():
        return _from_file(path, image_size, vocabulary)
    name, equals, file = subject.partition("=")
    if equals and "[" not in name:  # "[" begins the settings of an experiment
        return _from_name(name, Path(file), image_size, vocabulary)
    if path.suffix in SUFFIXES:
        raise ValueError(f"no file {subject!r}")
    if subject not in EXPERIMENTS and "[" not in subject:
        raise ValueError(f"{subject!r} is no tower: {ACCEPTED_TOWERS}")
    newest = max(latest_towers(results, subject), key=lambda tower: read_provenance(tower).images)
    return _from_own_file(newest, image_size)


def build_untrained_copy(known: LoadedTower) -> ImageTower:
    """Return the random-init baseline of a tower that was trained elsewhere, with the same weights at every call."""
    assert known.build is not None, f"{known.name} was trained here, from weights that its seed gives"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(0, TOWER))
        tower = known.build()
    tower.pixels = known.tower.pixels
    return tower


def _from_file(path: Path, image_size: int | None, vocabulary: str | None) -> LoadedTower:
    if is_made_here(path):
        return _from_own_file(path, image_size)
    state = read_weights(path)
    if corenet_vit.STEM in state:
        return _corenet(path, state, image_size, vocabulary)
    raise ValueError(
        f"{path} does not name its architecture; name its model: NAME={path}. It looks like {identify(state)}"
    )


def _from_own_file(path: Path, image_size: int | None) -> LoadedTower:
    tower, provenance = load_trained_tower(path, image_size)
    of = provenance.experiment
    return LoadedTower(
        tower, of.name, of.tower, provenance, read_label_classifier(path), read_text_encoder(tower, path, provenance)
    )


def _from_folder(path: Path, image_size: int | None) -> LoadedTower:
    try:
        described = decode_json(read_limited(path / FOLDER_CONFIG), dict)
        config, shown = described["model_cfg"], described.get("preprocess_cfg", {})
        size = image_size or config["vision_cfg"]["image_size"]
        build = partial(_wrap_trunk, partial(build_trunk, config, size), size)
        tower = build()
    except Exception as error:  # noqa: BLE001 - open_clip documents no exceptions for invalid configurations
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise ValueError(f"{path} is no folder of open_clip's: {FOLDER_CONFIG}: {why}") from None
    file = next((path / name for name in FOLDER_WEIGHTS if (path / name).is_file()), None)
    if file is None:
        raise ValueError(f"{path} holds none of {', '.join(FOLDER_WEIGHTS)}")
    _load(tower, read_weights(file), file, path.name)
    tower.pixels = make_renormalisation(
        shown.get("mean", open_clip.OPENAI_DATASET_MEAN), shown.get("std", open_clip.OPENAI_DATASET_STD)
    )
    return LoadedTower(tower, path.name, path.name, build=build)


def _from_name(name: str, file: Path, image_size: int | None, vocabulary: str | None) -> LoadedTower:
    config = open_clip_config(name)
    if config is None and not timm.is_model(name) and not name.startswith(corenet_vit.PREFIX):
        build_image_tower(name, image_size or 224, 0)  # raises an error that suggests a name
    if not file.is_file():
        raise ValueError(f"no file {str(file)!r} with weights of {name}")
    state = read_weights(file)
    if name.startswith(corenet_vit.PREFIX):
        corenet_vit.corenet_vit(name)
        return _corenet(file, state, image_size, vocabulary, name)
    if config is not None:
        size, pixels = config["vision_cfg"]["image_size"], _published_mean_and_std(name)
    else:
        described: Any = timm.get_pretrained_cfg(name)
        size, pixels = described.input_size[-1], (described.mean, described.std)
    build = partial(build_image_tower, name, image_size or size, seed_for(0, TOWER))
    tower = build()
    _load(tower, state, file, name)
    tower.pixels = make_renormalisation(*pixels)
    return LoadedTower(tower, f"{name}={file.name}", name, build=build)


def _corenet(
    path: Path, state: Mapping[str, Tensor], image_size: int | None, vocabulary: str | None, name: str = ""
) -> LoadedTower:
    """Read a file of CoreNet, whose images have pixels from 0 to 1 without normalisation."""
    of_file = partial(corenet_vit.CorenetViT, *corenet_vit.infer_sizes(state)) if not name else None
    build = partial(_wrap_trunk, of_file or partial(corenet_vit.corenet_vit, name), image_size or 224)
    tower, weights = build(), corenet_vit.convert_corenet_state(state)
    load_exactly(tower.trunk, weights, f"{path} does not fit {name or 'a ViT of CoreNet'}", given=state)
    tower.pixels = make_renormalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    rows = None
    vocabulary = vocabulary or next(
        (str(one) for one in map(path.with_suffix, VOCABULARY_SUFFIXES) if one.is_file()), None
    )
    if "classifier.weight" in state:
        keys = read_vocabulary(vocabulary).keys if vocabulary else ()
        if "classifier.bias" not in state:
            raise ValueError(f"{path} has classifier.weight and no classifier.bias")
        rows = LabelClassifier(state["classifier.weight"], state["classifier.bias"], keys)
        if len(keys) > len(rows.weight):
            classifier = f"{path} has a classifier of {len(rows.weight):,} rows"
            raise ValueError(f"{classifier}, vocabulary {vocabulary} has {len(keys):,} labels")
    return LoadedTower(tower, path.name, name or identify(state).split(",")[0], label_classifier=rows, build=build)


def _wrap_trunk(trunk: Callable[[], nn.Module], image_size: int) -> ImageTower:
    return ImageTower(trunk(), image_size)


def _load(tower: ImageTower, state: Mapping[str, Tensor], file: Path, name: str) -> None:
    weights = trunk_weights(state, tower.trunk)
    load_exactly(tower.trunk, weights, f"{file} does not fit {name}", given=state)


def _published_mean_and_std(name: str) -> tuple[Any, Any]:
    """Return the mean and deviation that all published weights of an open_clip model share, or else the defaults."""
    configs = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    found = {(tuple(config["mean"]), tuple(config["std"])) for config in configs if "mean" in config}
    return found.pop() if len(found) == 1 else (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
