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
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.tasks import Task, TaskSplit

INVERSE_L2 = tuple(float(strength) for strength in np.logspace(-5, 0, 11))  # C, the inverse of the L2 penalty
KS = (1.0, 3.0, 5.0, 10.0, 20.0)
Classes = Int[Tensor, " images"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFeatures:
    """Features of images and their classes."""

    features: Float[Tensor, "*draws images features"]
    labels: Int[Tensor, "*draws images"]

    def select(self, rows: Sequence[int] | np.ndarray | Tensor) -> "LabelledFeatures":
        chosen = torch.as_tensor(rows, device=self.labels.device)
        return LabelledFeatures(self.features[chosen], self.labels[chosen])

    def concatenate(self, other: "LabelledFeatures") -> "LabelledFeatures":
        return LabelledFeatures(torch.cat([self.features, other.features]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True, slots=True)
class EmbeddedTask:
    """A task whose images are embedded."""

    name: str
    classes: tuple[str, ...]
    train: LabelledFeatures
    validation: LabelledFeatures
    test: LabelledFeatures

    def with_classes(self, classes: Sequence[int], name: str) -> "EmbeddedTask":
        """Return the task restricted to some of its classes."""
        number = torch.full((len(self.classes),), -1)
        number[list(classes)] = torch.arange(len(classes))

        def some(part: LabelledFeatures) -> LabelledFeatures:
            kept = number[part.labels] >= 0
            return LabelledFeatures(part.features[kept], number[part.labels[kept]])

        names = tuple(self.classes[one] for one in classes)
        return EmbeddedTask(name, names, some(self.train), some(self.validation), some(self.test))


@dataclass(frozen=True, slots=True)
class ProbeProtocol:
    """A classifier on frozen features with one setting to choose; `answers` predicts for one setting after another."""

    name: str
    settings: tuple[float, ...]
    predictions: Callable[[LabelledFeatures, Tensor, Sequence[float], int], Iterator[tuple[Classes, bool]]]


def linear_predictions(
    train: LabelledFeatures, queries: Float[Tensor, "queries features"], strengths: Sequence[float], _num_classes: int
) -> Iterator[tuple[Classes, bool]]:
    """Yield the predictions of logistic regression, and whether it converged."""
    axes = Axes.fit(train.features)
    along = axes.project(queries)
    for fit in sweep(axes.project(train.features), train.labels, strengths):
        yield fit.predictions(along), fit.converged


def neighbour_predictions(
    train: LabelledFeatures, queries: Float[Tensor, "queries features"], ks: Sequence[float], num_classes: int
) -> Iterator[tuple[Classes, bool]]:
    """Yield the majority class of the k nearest neighbours; k is at most the size of the training part."""
    sizes = [min(int(k), len(train.labels)) for k in ks]
    for answers in neighbours.predictions(train.features, train.labels, queries, sizes, num_classes):
        yield answers, True


LINEAR_PROBE = ProbeProtocol("linear probe", INVERSE_L2, linear_predictions)
NEAREST_NEIGHBOURS = ProbeProtocol("k-NN", KS, neighbour_predictions)


def score_linear_probe(subject: FeatureExtractor, task: Task) -> list[Score]:
    """Score by multinomial logistic regression."""
    seen = embedded(subject, task)
    return [score_refitted(LINEAR_PROBE, seen, seen.train, seen.validation)]


def score_k_nn(subject: FeatureExtractor, task: Task) -> list[Score]:
    """Score by the majority of the nearest neighbours by cosine."""
    seen = embedded(subject, task)
    return [score_refitted(NEAREST_NEIGHBOURS, seen, seen.train, seen.validation)]


def embedded(
    subject: FeatureExtractor, task: Task, device: torch.device | None = None, dtype: torch.dtype = torch.float64
) -> EmbeddedTask:
    """Embed the images of a task; by default in float64 on the subject's device."""
    device = device or subject.device

    def seen(part: TaskSplit) -> LabelledFeatures:
        features, labels = torch.from_numpy(subject.embed(part.images)), torch.from_numpy(part.labels)
        return LabelledFeatures(features.to(device, dtype), labels.to(device))

    return EmbeddedTask(task.name, task.classes, seen(task.train), seen(task.validation), seen(task.test))


def draws_of(task: EmbeddedTask, count: int) -> list[tuple[int, Order, Order]]:
    """Return for each draw its number and the class orders of the training and the validation part."""

    def order(name: str, part: LabelledFeatures, draw: int) -> Order:
        return class_orders(f"{task.name}/{name}/{draw}", part.labels.cpu().numpy(), len(task.classes))

    return [
        (draw, order("train", task.train, draw), order("validation", task.validation, draw)) for draw in range(count)
    ]


def score_refitted(
    protocol: ProbeProtocol, task: EmbeddedTask, train: LabelledFeatures, validation: LabelledFeatures, **point: Any
) -> Score:
    """Choose the setting on the validation part, refit on both parts, and score on the test part."""
    accuracies = [
        _share(answers, validation)
        for answers, _ in protocol.predictions(train, validation.features, protocol.settings, len(task.classes))
    ]
    best = int(np.argmax(accuracies))
    both, setting = train.concatenate(validation), protocol.settings[best]
    answers, converged = next(protocol.predictions(both, task.test.features, [setting], len(task.classes)))
    right = answers == task.test.labels
    return make_score(task, protocol.name, setting, accuracies[best], right, converged, len(both.labels), **point)


def score_not_refitted(
    protocol: ProbeProtocol, task: EmbeddedTask, train: LabelledFeatures, validation: LabelledFeatures, **point: Any
) -> Score:
    """Choose the setting on the validation part, and score on the test part the fit to the training part alone."""
    queries, tried = torch.cat([validation.features, task.test.features]), list[tuple[float, Tensor, bool]]()
    for answers, converged in protocol.predictions(train, queries, protocol.settings, len(task.classes)):
        on_validation, on_test = torch.tensor_split(answers, [len(validation.labels)])
        tried.append((_share(on_validation, validation), on_test == task.test.labels, converged))
    best = int(np.argmax([accuracy for accuracy, *_ in tried]))
    accuracy, right, converged = tried[best]
    return make_score(
        task, protocol.name, protocol.settings[best], accuracy, right, converged, len(train.labels), **point
    )


def make_score(
    task: Task | EmbeddedTask,
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


def _share(answers: Classes, part: LabelledFeatures) -> float:
    return float((answers == part.labels).double().mean())
