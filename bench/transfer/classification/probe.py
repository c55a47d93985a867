"""Linear probe and nearest neighbours on frozen features.

Both choose their one setting on the task's validation part, are refitted on training and validation part together, and
are reported on the test part.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bench.record import Score
from bench.transfer.classification import neighbours
from bench.transfer.classification.logistic import Axes, sweep
from bench.transfer.classification.shares import Order, class_orders
from bench.transfer.feature_extractor import Subject
from bench.transfer.tasks.tasks import Part, Task

STRENGTHS = tuple(float(strength) for strength in np.logspace(-5, 0, 11))  # C, the inverse of the L2 penalty
KS = (1.0, 3.0, 5.0, 10.0, 20.0)
Classes = Int[Tensor, " images"]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Features of images and their classes."""

    features: Float[Tensor, "*draws images features"]
    labels: Int[Tensor, "*draws images"]

    def some(self, rows: Sequence[int] | np.ndarray | Tensor) -> "Labelled":
        chosen = torch.as_tensor(rows, device=self.labels.device)
        return Labelled(self.features[chosen], self.labels[chosen])

    def beside(self, other: "Labelled") -> "Labelled":
        return Labelled(torch.cat([self.features, other.features]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True, slots=True)
class SeenTask:
    """A task whose images are embedded."""

    name: str
    classes: tuple[str, ...]
    train: Labelled
    validation: Labelled
    test: Labelled

    def of(self, classes: Sequence[int], name: str) -> "SeenTask":
        """Return the task restricted to some of its classes."""
        number = torch.full((len(self.classes),), -1)
        number[list(classes)] = torch.arange(len(classes))

        def some(part: Labelled) -> Labelled:
            kept = number[part.labels] >= 0
            return Labelled(part.features[kept], number[part.labels[kept]])

        names = tuple(self.classes[one] for one in classes)
        return SeenTask(name, names, some(self.train), some(self.validation), some(self.test))


@dataclass(frozen=True, slots=True)
class Protocol:
    """A classifier on frozen features with one setting to choose; `answers` predicts for one setting after another."""

    name: str
    settings: tuple[float, ...]
    answers: Callable[[Labelled, Tensor, Sequence[float], int], Iterator[tuple[Classes, bool]]]


def linear_answers(
    train: Labelled, queries: Float[Tensor, "queries features"], strengths: Sequence[float], _num_classes: int
) -> Iterator[tuple[Classes, bool]]:
    """Yield the predictions of logistic regression, and whether it converged."""
    axes = Axes.of(train.features)
    along = axes.seen(queries)
    for fit in sweep(axes.seen(train.features), train.labels, strengths):
        yield fit.answers(along), fit.converged


def neighbour_answers(
    train: Labelled, queries: Float[Tensor, "queries features"], ks: Sequence[float], num_classes: int
) -> Iterator[tuple[Classes, bool]]:
    """Yield the majority class of the k nearest neighbours; k is at most the size of the training part."""
    sizes = [min(int(k), len(train.labels)) for k in ks]
    for answers in neighbours.answers(train.features, train.labels, queries, sizes, num_classes):
        yield answers, True


LINEAR_PROBE = Protocol("linear probe", STRENGTHS, linear_answers)
NEAREST_NEIGHBOURS = Protocol("k-NN", KS, neighbour_answers)


def linear_probe(subject: Subject, task: Task) -> list[Score]:
    """Score by multinomial logistic regression."""
    seen = embedded(subject, task)
    return [refitted(LINEAR_PROBE, seen, seen.train, seen.validation)]


def k_nn(subject: Subject, task: Task) -> list[Score]:
    """Score by the majority of the nearest neighbours by cosine."""
    seen = embedded(subject, task)
    return [refitted(NEAREST_NEIGHBOURS, seen, seen.train, seen.validation)]


def embedded(
    subject: Subject, task: Task, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> SeenTask:
    """Embed the images of a task; by default in float64 on the subject's device."""
    device = device or subject.device

    def seen(part: Part) -> Labelled:
        features, labels = torch.from_numpy(subject.embed(part.pictures)), torch.from_numpy(part.labels)
        return Labelled(features.to(device, dtype), labels.to(device))

    return SeenTask(task.name, task.classes, seen(task.train), seen(task.validation), seen(task.test))


def draws_of(task: SeenTask, count: int) -> list[tuple[int, Order, Order]]:
    """Return for each draw its number and the class orders of the training and the validation part."""

    def order(name: str, part: Labelled, draw: int) -> Order:
        return class_orders(f"{task.name}/{name}/{draw}", part.labels.cpu().numpy(), len(task.classes))

    return [
        (draw, order("train", task.train, draw), order("validation", task.validation, draw)) for draw in range(count)
    ]


def refitted(protocol: Protocol, task: SeenTask, train: Labelled, validation: Labelled, **point: Any) -> Score:
    """Choose the setting on the validation part, refit on both parts, and score on the test part."""
    accuracies = [
        _share(answers, validation)
        for answers, _ in protocol.answers(train, validation.features, protocol.settings, len(task.classes))
    ]
    best = int(np.argmax(accuracies))
    together, setting = train.beside(validation), protocol.settings[best]
    answers, converged = next(protocol.answers(together, task.test.features, [setting], len(task.classes)))
    right = answers == task.test.labels
    return score(task, protocol.name, setting, accuracies[best], right, converged, len(together.labels), **point)


def not_refitted(protocol: Protocol, task: SeenTask, train: Labelled, validation: Labelled, **point: Any) -> Score:
    """Choose the setting on the validation part, and score on the test part the fit to the training part alone."""
    queries, tried = torch.cat([validation.features, task.test.features]), list[tuple[float, Tensor, bool]]()
    for answers, converged in protocol.answers(train, queries, protocol.settings, len(task.classes)):
        on_validation, on_test = torch.tensor_split(answers, [len(validation.labels)])
        tried.append((_share(on_validation, validation), on_test == task.test.labels, converged))
    best = int(np.argmax([accuracy for accuracy, *_ in tried]))
    accuracy, right, converged = tried[best]
    return score(task, protocol.name, protocol.settings[best], accuracy, right, converged, len(train.labels), **point)


def score(
    task: Task | SeenTask,
    protocol: str,
    chosen: float,
    validation_accuracy: float,
    right: Bool[Tensor, " images"],
    converged: bool,
    num_train: int,
    **point: Any,
) -> Score:
    """Return the score of predictions on a task's test part."""
    labels = torch.as_tensor(task.test.labels)
    return Score(
        task=task.name,
        protocol=protocol,
        chosen=chosen,
        validation_accuracy=validation_accuracy,
        converged=converged,
        correct="".join("1" if one else "0" for one in right.tolist()),
        num_classes=len(task.classes),
        num_train=num_train,
        majority=int(labels.bincount().max()) / len(labels),
        **point,
    )


def _share(answers: Classes, part: Labelled) -> float:
    return float((answers == part.labels).double().mean())
