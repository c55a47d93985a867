"""Accuracy of linear probes against the number of labelled images: few of each class, or a share of all.

A draw puts the images of every class of the training part, and of the validation part, in an order; a point takes the
first of them. Orders depend on the task and the draw alone, so every subject is given the same images.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from bench.record import Score
from bench.transfer.classification.probe import LINEAR_PROBE, not_refitted, parts_of, refitted
from bench.transfer.classification.shares import distinct_shares, taken
from bench.transfer.feature_extractor import Subject
from bench.transfer.tasks.tasks import Part, Task

DRAWS = 10
SHOTS = (1, 2, 4, 8, 16)
MOST_SHOTS_TO_TUNE = 4
FEW_SHOT, LABEL_FRACTIONS = (replace(LINEAR_PROBE, name=name) for name in ("few-shot", "label fractions"))
Rows = Int[np.ndarray, " _"]
Order = list[Rows]  # of a part's rows, class by class


def few_shot(subject: Subject, task: Task) -> list[Score]:
    """Score on 1, 2, 4, 8 and 16 images of each class, or all of a class that has fewer.

    The penalty is chosen on other images, as many of each class but at most four; they are not fitted to. So fewer
    labels are spent on the choice than on the fit, or as many.
    Source: Zhou et al. 2021, arXiv:2109.01134, the linear probe beside CoOp (lpclip/linear_probe.py has the numbers).
    """
    train, validation, test = parts_of(subject, task)
    return [
        not_refitted(
            FEW_SHOT,
            task,
            train.some(_first(fitted, shots)),
            validation.some(_first(tuned, min(shots, MOST_SHOTS_TO_TUNE))),
            test,
            per_class=shots,
            draw=draw,
        )
        for draw, fitted, tuned in _draws(task, DRAWS)
        for shots in SHOTS
    ]


def label_fractions(subject: Subject, task: Task) -> list[Score]:
    """Score on 1, 5, 10, 25, 50 and 100 % of the labelled images of each class, one at least.

    A share that takes the same images as a smaller one, or as all, is left out. The validation part is as small a
    share, the penalty is chosen on it, and both are fitted to. All labels can be drawn in one way only, and are the
    linear probe.
    """
    parts = train, validation, test = parts_of(subject, task)
    sizes = [size for of in (task.train, task.validation) for size in np.bincount(of.labels).tolist()]
    *shares, whole = distinct_shares(sizes)
    some = [
        refitted(
            LABEL_FRACTIONS,
            task,
            train.some(_share(fitted, share)),
            validation.some(_share(tuned, share)),
            test,
            label_share=share,
            draw=draw,
        )
        for draw, fitted, tuned in _draws(task, DRAWS)
        for share in shares
    ]
    return [*some, refitted(LABEL_FRACTIONS, task, *parts, label_share=whole)]


def _draws(task: Task, count: int) -> Iterator[tuple[int, Order, Order]]:
    for draw in range(count):
        yield draw, _order(task, task.train, draw), _order(task, task.validation, draw)


def _order(task: Task, part: Part, draw: int) -> Order:
    words = f"{task.name}/{'train' if part is task.train else 'validation'}/{draw}"
    shuffled = np.random.default_rng([*hashlib.sha256(words.encode()).digest()]).permutation(len(part.labels))
    return [shuffled[part.labels[shuffled] == label] for label in range(len(task.classes))]


def _first(order: Order, shots: int) -> Rows:
    return np.concatenate([rows[:shots] for rows in order])


def _share(order: Order, share: float) -> Rows:
    return np.concatenate([rows[: taken(len(rows), share)] for rows in order])
