"""From a tower, or from features that were never trained, to scores on tasks."""

from dataclasses import replace
from typing import Any

import torch

from bench.catalog import RANDOM_TOWER, Role
from bench.config import Experiment
from bench.record import Metric, Score, Transfer
from bench.towers.tower_from import KnownTower, tower_from, untrained_kind
from bench.train.build import untrained_tower
from bench.transfer.feature_extractor import Subject, kept
from bench.transfer.features import REFERENCE_FEATURES, tower_features
from bench.transfer.protocols import PROTOCOLS


def open_subject(name: str, experiment: Experiment, device: torch.device, role: Role = "") -> Subject:
    """Open a tower (`tower_from`), "random tower" (the experiment's, untrained), or reference features by their name.

    The role "reference" makes a tower the upper bound: its name says so, and it belongs to no budget. "untrained" gives
    its architecture random weights; for a tower that was trained here, those that its training began with. Only the
    experiment's own architecture is named "random tower" alone.
    """
    if role == "reference":
        upper_bound = open_subject(name, experiment, device)
        return replace(upper_bound, name=f"reference {upper_bound.name}", budgets=())
    if role == "untrained":
        return _floor(tower_from(name), experiment, device)
    if name in REFERENCE_FEATURES:
        return Subject(name=name, embed=kept(REFERENCE_FEATURES[name]), tower=None, device=device, experiment=None)
    if name == RANDOM_TOWER:
        tower = untrained_tower(experiment)
        embed = kept(tower_features(tower, device))
        return Subject(name=name, embed=embed, tower=tower, device=device, experiment=experiment)
    known = tower_from(name)
    subject = Subject(
        name=known.name,
        embed=kept(tower_features(known.tower, device)),
        tower=known.tower,
        device=device,
        experiment=None,
        known=known,
    )
    if (made := known.made) is None:
        return subject
    return replace(subject, experiment=made.experiment, images=made.images, budgets=made.budgets)


def _floor(known: KnownTower, compared: Experiment, device: torch.device) -> Subject:
    name = f"{RANDOM_TOWER} of {known.name}"
    if known.made is not None:
        made = known.made.experiment
        floor = open_subject(RANDOM_TOWER, made, device)
        is_same = (made.tower, made.image_size) == (compared.tower, compared.image_size)
        return floor if is_same else replace(floor, name=name)
    tower = untrained_kind(known)
    return Subject(name=name, embed=kept(tower_features(tower, device)), tower=tower, device=device, experiment=None)


def scored(subject: Subject, task: Any, protocol: str) -> Transfer:
    """Score a subject on a task by a protocol's name."""
    found = PROTOCOLS[protocol](subject, task)
    return Transfer(
        subject=subject.name,
        images=subject.images,
        budgets=subject.budgets,
        scores=tuple(one for one in found if isinstance(one, Score)),
        metrics=tuple(one for one in found if isinstance(one, Metric)),
    )
