"""Score a feature extractor on a task by a protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, cast

import torch

from bench.experiment.config import Experiment
from bench.interfaces.catalog import PROTOCOLS, RANDOM_INIT, REFERENCE_TOWER, Role
from bench.measure.memory import is_out_of_memory
from bench.records.record import Transfer
from bench.records.scores import MetricScore, Score
from bench.towers.tower_from import LoadedTower, build_untrained_copy, load_tower
from bench.train.build import build_untrained_tower
from bench.transfer.feature_extractor import (
    UNTRAINED_FEATURES,
    Embed,
    FeatureExtractor,
    tower_embedder,
)
from bench.transfer.reference_tower import load_reference_tower
from models.image_tower import ImageTower


def open_extractor(
    name: str, experiment: Experiment, device: torch.device, role: Role = ""
) -> FeatureExtractor:
    """Open a tower (`load_tower`), the random-init baseline "random init", or reference features by their name.

    The role "reference" makes a tower an upper bound, which has no budget. The role "untrained" gives the random-init
    baseline of a tower: the initial weights of a tower that was trained here, else random weights. It is named "random
    init" only where it is of the same kind as that of `experiment`.
    """
    if role == "untrained":
        return _open_random_init(load_tower(name), experiment, device)
    if name in UNTRAINED_FEATURES:
        embed = cast("Embed", cache(UNTRAINED_FEATURES[name]))
        return FeatureExtractor(name=name, embed=embed, tower=None, device=device, experiment=None)
    extractor = _open_tower(name, experiment, device)
    if role == "reference":
        return replace(extractor, name=f"reference {extractor.name}", budgets=())
    return extractor


def _open_tower(name: str, experiment: Experiment, device: torch.device) -> FeatureExtractor:
    if name == REFERENCE_TOWER:
        return _tower_extractor(name, load_reference_tower(), device)
    if name == RANDOM_INIT:
        return _tower_extractor(name, build_untrained_tower(experiment), device, experiment)
    loaded = load_tower(name)
    extractor = replace(_tower_extractor(loaded.name, loaded.tower, device), loaded=loaded)
    trained = loaded.provenance
    if trained is None:
        return extractor
    return replace(
        extractor, experiment=trained.experiment, images=trained.images, budgets=trained.budgets
    )


def _open_random_init(
    loaded: LoadedTower, compared: Experiment, device: torch.device
) -> FeatureExtractor:
    name = f"{RANDOM_INIT} of {loaded.name}"
    if loaded.provenance is None:
        return _tower_extractor(name, build_untrained_copy(loaded), device)
    trained = loaded.provenance.experiment
    is_of_one_kind = trained.image.random_init_kind == compared.image.random_init_kind
    return _tower_extractor(
        RANDOM_INIT if is_of_one_kind else name, build_untrained_tower(trained), device, trained
    )


def _tower_extractor(
    name: str, tower: ImageTower, device: torch.device, experiment: Experiment | None = None
) -> FeatureExtractor:
    embed = cast("Embed", cache(tower_embedder(tower, device)))
    return FeatureExtractor(
        name=name, embed=embed, tower=tower, device=device, experiment=experiment
    )


def score_task(
    subject: FeatureExtractor, task: Any, protocol: str, templates: str = ""
) -> Transfer:
    """Score a subject on a task by a protocol's name, a text tower with the prompt templates of a file."""
    scores = PROTOCOLS[protocol].score(replace(subject, templates=templates), task)
    return Transfer(
        subject=subject.name,
        images=subject.images,
        budgets=subject.budgets,
        scores=tuple(score for score in scores if isinstance(score, Score)),
        metrics=tuple(score for score in scores if isinstance(score, MetricScore)),
    )


@contextmanager
def collect_error(errors: list[str], label: str) -> Iterator[None]:
    """Add an error to a list and continue after the block; out of memory ends the process.

    A process in which oneDNN ran out of memory never computes again, so that everything after it would fail, too.
    """
    try:
        yield
    except Exception as error:
        if errors and str(error) == "; ".join(errors):
            raise  # of a block within this one, which has added it
        errors.append(f"{label}: {type(error).__name__}: {error}")
        if is_out_of_memory(error):
            raise RuntimeError("; ".join(errors)) from error
