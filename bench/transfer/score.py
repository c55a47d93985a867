"""Score a feature extractor on a task by a protocol."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from bench.catalog import RANDOM_TOWER, Role
from bench.config import Experiment
from bench.record import Metric, Score, Transfer
from bench.towers.tower_from import tower_from, untrained_kind
from bench.train.build import untrained_tower
from bench.transfer.classification.curves import few_shot, label_fractions
from bench.transfer.classification.fine_tune_protocol import fine_tuned
from bench.transfer.classification.probe import k_nn, linear_probe
from bench.transfer.classification.transfer_init import transfer_init
from bench.transfer.detection.detection import detection
from bench.transfer.feature_extractor import REFERENCE_FEATURES, Subject, kept, tower_features
from bench.transfer.multilabel import multi_label
from bench.transfer.segmentation.segmentation import segmentation
from models.image_tower import ImageTower

PROTOCOLS: dict[str, Callable[[Subject, Any], Sequence[Score | Metric]]] = {
    "linear-probe": linear_probe,
    "k-nn": k_nn,
    "few-shot": few_shot,
    "label-fractions": label_fractions,
    "fine-tune": fine_tuned,
    "multi-label": multi_label.linear,
    "multi-label-fine-tune": multi_label.fine_tuned,
    "segmentation": segmentation,
    "detection": detection,
    "transfer-init": transfer_init,
}  # bench/catalog.py has the tasks that each accepts


def open_subject(name: str, experiment: Experiment, device: torch.device, role: Role = "") -> Subject:
    """Open a tower (`tower_from`), the random-init baseline "random tower", or reference features by their name.

    The role "reference" makes a tower an upper bound, which has no budget. The role "untrained" gives the random-init
    baseline of a tower: the initial weights of a tower that was trained here, else random weights. It is named
    "random tower" only where it has the architecture of `experiment`.
    """
    if role == "reference":
        bound = open_subject(name, experiment, device)
        return replace(bound, name=f"reference {bound.name}", budgets=())
    if name in REFERENCE_FEATURES:
        return Subject(name=name, embed=kept(REFERENCE_FEATURES[name]), tower=None, device=device, experiment=None)
    if name == RANDOM_TOWER:
        return _subject(name, untrained_tower(experiment), device, experiment)
    known = tower_from(name)
    made = known.made
    if role != "untrained":
        subject = replace(_subject(known.name, known.tower, device), known=known)
        if made is not None:
            subject = replace(subject, experiment=made.experiment, images=made.images, budgets=made.budgets)
        return subject
    own_name = f"{RANDOM_TOWER} of {known.name}"
    if made is None:
        return _subject(own_name, untrained_kind(known), device)
    of = made.experiment
    is_same = (of.tower, of.image_size) == (experiment.tower, experiment.image_size)
    return _subject(RANDOM_TOWER if is_same else own_name, untrained_tower(of), device, of)


def _subject(name: str, tower: ImageTower, device: torch.device, experiment: Experiment | None = None) -> Subject:
    embed = kept(tower_features(tower, device))
    return Subject(name=name, embed=embed, tower=tower, device=device, experiment=experiment)


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
