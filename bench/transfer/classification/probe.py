"""Linear probe and nearest neighbours on frozen features.

Both choose their one setting on the task's validation part, are fitted again on training and validation part
together, and are reported on the test part.
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
from bench.transfer.feature_extractor import Subject
from bench.transfer.tasks.tasks import Part, Task

STRENGTHS = tuple(float(strength) for strength in np.logspace(-5, 0, 11))  # C, the inverse of the L2 penalty
KS = (1.0, 3.0, 5.0, 10.0, 20.0)
Classes = Int[Tensor, " pictures"]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Features of pictures, in float64 on the subject's device, and their classes."""

    features: Float[Tensor, "pictures features"]
    labels: Classes

    def some(self, rows: Sequence[int] | np.ndarray) -> "Labelled":
        """Take rows."""
        chosen = torch.as_tensor(rows, device=self.labels.device)
        return Labelled(self.features[chosen], self.labels[chosen])

    def beside(self, other: "Labelled") -> "Labelled":
        """Join two parts."""
        return Labelled(torch.cat([self.features, other.features]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True, slots=True)
class Protocol:
    """A classifier on frozen features with one setting to choose; it answers queries for setting after setting."""

    name: str
    settings: tuple[float, ...]
    answers: Callable[[Labelled, Tensor, Sequence[float], int], Iterator[tuple[Classes, bool]]]


def linear_answers(
    train: Labelled, queries: Float[Tensor, "queries features"], strengths: Sequence[float], _num_classes: int
) -> Iterator[tuple[Classes, bool]]:
    """Yield the classes that logistic regression answers, and whether it converged."""
    axes = Axes.of(train.features)
    along = axes.seen(queries)
    for fit in sweep(axes.seen(train.features), train.labels, strengths):
        yield fit.answers(along), fit.converged


def neighbour_answers(
    train: Labelled, queries: Float[Tensor, "queries features"], ks: Sequence[float], num_classes: int
) -> Iterator[tuple[Classes, bool]]:
    """Yield the classes that the majority of the nearest has, for as many as the training part has at most."""
    most = len(train.labels)
    found = neighbours.answers(train.features, train.labels, queries, [min(int(k), most) for k in ks], num_classes)
    for answers in found:
        yield answers, True


LINEAR_PROBE = Protocol("linear probe", STRENGTHS, linear_answers)
NEAREST_NEIGHBOURS = Protocol("k-NN", KS, neighbour_answers)


def linear_probe(subject: Subject, task: Task) -> list[Score]:
    """Score by multinomial logistic regression."""
    return [refitted(LINEAR_PROBE, task, *parts_of(subject, task))]


def k_nn(subject: Subject, task: Task) -> list[Score]:
    """Score by the majority of the nearest neighbours by cosine."""
    return [refitted(NEAREST_NEIGHBOURS, task, *parts_of(subject, task))]


def parts_of(subject: Subject, task: Task) -> tuple[Labelled, Labelled, Labelled]:
    """Embed a task's parts."""

    def embedded(part: Part) -> Labelled:
        features, labels = torch.from_numpy(subject.embed(part.pictures)), torch.from_numpy(part.labels)
        return Labelled(features.to(subject.device, torch.float64), labels.to(subject.device))

    return embedded(task.train), embedded(task.validation), embedded(task.test)


def refitted(
    protocol: Protocol, task: Task, train: Labelled, validation: Labelled, test: Labelled, **point: Any
) -> Score:
    """Choose the setting on the validation part, fit to it too, and score on the test part."""
    accuracies = [
        _share(answers, validation)
        for answers, _ in protocol.answers(train, validation.features, protocol.settings, len(task.classes))
    ]
    best = int(np.argmax(accuracies))
    together = train.beside(validation)
    setting = protocol.settings[best]
    answers, converged = next(protocol.answers(together, test.features, [setting], len(task.classes)))
    right = answers == test.labels
    return score(task, protocol.name, setting, accuracies[best], right, converged, len(together.labels), **point)


def not_refitted(
    protocol: Protocol, task: Task, train: Labelled, validation: Labelled, test: Labelled, **point: Any
) -> Score:
    """Choose the setting on the validation part and score on the test part what was fitted to the training part."""
    queries, tried = torch.cat([validation.features, test.features]), list[tuple[float, Tensor, bool]]()
    for answers, converged in protocol.answers(train, queries, protocol.settings, len(task.classes)):
        on_validation, on_test = torch.tensor_split(answers, [len(validation.labels)])
        tried.append((_share(on_validation, validation), on_test == test.labels, converged))
    best = int(np.argmax([accuracy for accuracy, *_ in tried]))
    accuracy, right, converged = tried[best]
    return score(task, protocol.name, protocol.settings[best], accuracy, right, converged, len(train.labels), **point)


def score(
    task: Task,
    protocol: str,
    chosen: float,
    validation_accuracy: float,
    right: Bool[Tensor, " pictures"],
    converged: bool,
    num_train: int,
    **point: Any,
) -> Score:
    """Write down how a task's test part was answered."""
    return Score(
        task=task.name,
        protocol=protocol,
        chosen=chosen,
        validation_accuracy=validation_accuracy,
        converged=converged,
        correct="".join("1" if one else "0" for one in right.tolist()),
        num_classes=len(task.classes),
        num_train=num_train,
        majority=float(np.bincount(task.test.labels).max() / len(task.test.labels)),
        **point,
    )


def _share(answers: Classes, part: Labelled) -> float:
    return float((answers == part.labels).double().mean())
