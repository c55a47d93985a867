"""Score a feature extractor on a task by a protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, cast

import torch

from bench.experiment.config import Experiment
from bench.interfaces.catalog import PROTOCOLS, RANDOM_INIT, REFERENCE_TOWER
from bench.measure.memory import is_out_of_memory
from bench.records.record import Transfer
from bench.records.scores import MetricScore, Score
from bench.towers.tower_from import build_random_tower, load_tower
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
    name: str, experiment: Experiment, device: torch.device, *, is_untrained: bool = False
) -> FeatureExtractor:
    """Open a tower (`load_tower`), the random-init baseline "random init", or reference features by their name.

    With `is_untrained` it is the random-init baseline of a tower: the initial weights of a tower that was trained here,
    else random weights.
    """
    if name in UNTRAINED_FEATURES:
        embed = cast("Embed", cache(UNTRAINED_FEATURES[name]))
        return FeatureExtractor(name=name, embed=embed, tower=None, device=device, experiment=None)
    if name == REFERENCE_TOWER:
        return _tower_extractor(name, load_reference_tower(), device)
    if name == RANDOM_INIT:
        return _tower_extractor(name, build_untrained_tower(experiment), device, experiment)
    loaded = load_tower(name)
    trained = loaded.provenance
    if is_untrained and trained is not None:
        return open_extractor(RANDOM_INIT, trained.experiment, device)
    if is_untrained:
        title = f"{RANDOM_INIT} of {loaded.name}"
        return _tower_extractor(title, build_random_tower(loaded.architecture), device)
    extractor = replace(_tower_extractor(loaded.name, loaded.tower, device), loaded=loaded)
    if trained is not None:
        extractor = replace(
            extractor,
            experiment=trained.experiment,
            images=trained.images,
            budgets=trained.budgets,
        )
    return extractor


def _tower_extractor(
    name: str, tower: ImageTower, device: torch.device, experiment: Experiment | None = None
) -> FeatureExtractor:
    embed = cast("Embed", cache(tower_embedder(tower, device)))
    return FeatureExtractor(
        name=name, embed=embed, tower=tower, device=device, experiment=experiment
    )


def score_task(subject: FeatureExtractor, task: Any, protocol: str) -> Transfer:
    """Score a subject on a task by a protocol's name."""
    scores = PROTOCOLS[protocol].score(subject, task)
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
