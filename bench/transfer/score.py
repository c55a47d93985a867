"""From a tower, or from features that were never trained, to scores on every task."""

from collections.abc import Collection
from functools import cache
from pathlib import Path

import torch

from bench.config import Experiment, choose
from bench.data.manifest import CACHE
from bench.record import Transfer
from bench.run import untrained_tower
from bench.subjects import RANDOM_TOWER, TASKS
from bench.trained_tower import trained_tower
from bench.transfer.features import REFERENCE_FEATURES, Embed, tower_features
from bench.transfer.probe import score
from bench.transfer.tasks import pack_tasks


def score_tower(
    path: Path, results: Path, device: torch.device, tasks: Collection[str] = TASKS
) -> tuple[Transfer, Experiment]:
    """Score a tower that a training left on tasks by their names; also return the experiment that made it."""
    tower, made = trained_tower(path)
    embed = tower_features(tower, device)
    scored = _scores(made.experiment.name, embed, results, tasks, images=made.images, budgets=made.budgets)
    return scored, made.experiment


def score_untrained(
    experiment: Experiment, results: Path, device: torch.device, tasks: Collection[str] = TASKS
) -> Transfer:
    """Score the tower that a training of this experiment begins with: the floor."""
    tower = untrained_tower(experiment)
    return _scores(RANDOM_TOWER, tower_features(tower, device), results, tasks)


def score_reference(name: str, results: Path, tasks: Collection[str] = TASKS) -> Transfer:
    """Score reference features by their name."""
    return _scores(name, choose(name, REFERENCE_FEATURES, "reference"), results, tasks)


def _scores(
    subject: str,
    embed: Embed,
    results: Path,
    tasks: Collection[str],
    *,
    images: int = 0,
    budgets: tuple[str, ...] = (),
) -> Transfer:
    features_of = cache(lambda part: embed(part.pixels))  # tasks may share their test
    wanted = (task for task in pack_tasks(results / CACHE) if task.name in tasks)
    scores = [one for task in wanted for one in score(task, features_of)]
    return Transfer(subject=subject, images=images, budgets=budgets, scores=tuple(scores))
