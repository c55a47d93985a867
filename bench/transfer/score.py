"""Score a feature extractor on a task by a protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from msgspec import UNSET, UnsetType

from bench.experiment.config import Experiment
from bench.interfaces.catalog import PROTOCOLS, RANDOM_INIT, REFERENCE_TOWER
from bench.measure.memory import is_out_of_memory_error
from bench.records.record import TransferScores
from bench.records.scores import AccuracyScore, MetricScore
from bench.towers.tower_from import build_random_init_tower, load_reference_tower, load_tower
from bench.train.build import build_untrained_tower
from bench.transfer.feature_extractor import (
    UNTRAINED_FEATURES,
    Embed,
    FeatureExtractor,
    make_tower_embedder,
)
from bench.transfer.leaked_test_images import count_leaked_test_images
from models.image_tower import ImageTower


def open_extractor(
    extractor_name: str, experiment: Experiment, device: torch.device, *, is_untrained: bool = False
) -> FeatureExtractor:
    """Open a tower (`load_tower`), the random-init baseline "random init", or reference features by their name.

    With `is_untrained` it is the random-init baseline of a tower: the initial weights of a tower that was trained here,
    else random weights.
    """
    if extractor_name in UNTRAINED_FEATURES:
        embed = cast("Embed", cache(UNTRAINED_FEATURES[extractor_name]))
        return FeatureExtractor(name=extractor_name, embed=embed, device=device)
    if extractor_name == REFERENCE_TOWER:
        return _make_caching_extractor(extractor_name, load_reference_tower().tower, device)
    if extractor_name == RANDOM_INIT:
        tower = build_untrained_tower(experiment)
        return _make_caching_extractor(RANDOM_INIT, tower, device, experiment=experiment)
    loaded = load_tower(extractor_name)
    provenance = loaded.provenance
    if is_untrained and provenance is not None:
        return open_extractor(RANDOM_INIT, provenance.experiment, device)
    if is_untrained:
        title = f"{RANDOM_INIT} of {loaded.name}"
        return _make_caching_extractor(title, build_random_init_tower(loaded.architecture), device)
    return _make_caching_extractor(
        loaded.name,
        loaded.tower,
        device,
        loaded=loaded,
        experiment=provenance.experiment if provenance else None,
    )


def _make_caching_extractor(
    name: str, tower: ImageTower, device: torch.device, **fields: Any
) -> FeatureExtractor:
    """Return the feature extractor of a tower; it embeds each image source once. `fields` are further fields."""
    embed = cast("Embed", cache(make_tower_embedder(tower, device)))
    return FeatureExtractor(name=name, embed=embed, tower=tower, device=device, **fields)


def score_task(
    extractor: FeatureExtractor, task: Any, protocol_name: str, cache_folder: Path
) -> TransferScores:
    """Return the record of scoring a feature extractor on a loaded task by the protocol with this name.

    Data that the extractor was trained on are opened with their index in `cache_folder`.
    """
    scores = PROTOCOLS[protocol_name].score(extractor, task)
    provenance = extractor.loaded.provenance if extractor.loaded else None
    seen_images: int | UnsetType = UNSET
    if provenance is not None:
        test_images = getattr(task.test, "images", None)
        seen_images = count_leaked_test_images(test_images, provenance.experiment, cache_folder)
    return TransferScores(
        subject=extractor.name,
        images=provenance.images if provenance else 0,
        budgets=provenance.budgets if provenance else (),
        scores=tuple(score for score in scores if isinstance(score, AccuracyScore)),
        metrics=tuple(score for score in scores if isinstance(score, MetricScore)),
        seen_images=seen_images,
    )


@contextmanager
def append_error_of_block(errors: list[str], prefix: str) -> Iterator[None]:
    """Append an error of the block to `errors`, after `prefix`, and go on; running out of memory is raised.

    A process in which oneDNN ran out of memory never computes again, so that everything after it would fail, too.
    """
    try:
        yield
    except Exception as error:
        if errors and str(error) == "; ".join(errors):
            raise  # of a block within this one, which has added it
        errors.append(f"{prefix}: {type(error).__name__}: {error}")
        if is_out_of_memory_error(error):
            raise RuntimeError("; ".join(errors)) from error
