"""Linear probe and nearest neighbours on frozen features.

Both choose their one setting on the task's validation part, are fitted again on training and validation part
together, and are reported on the test part.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from bench.record import Score
from bench.transfer.subject import Subject
from bench.transfer.tasks import Task

Features = Float[np.ndarray, "_ features"]  # of a part: each has pictures of its own
MOST_ITERATIONS = 2000


def linear_probe(subject: Subject, task: Task) -> list[Score]:
    """Score by multinomial logistic regression."""
    return [_chosen_and_tested(task, _features(subject, task), LINEAR_PROBE)]


def k_nn(subject: Subject, task: Task) -> list[Score]:
    """Score by the majority of the nearest neighbours."""
    return [_chosen_and_tested(task, _features(subject, task), NEAREST_NEIGHBOURS)]


def _features(subject: Subject, task: Task) -> list[Features]:
    return [subject.embed(part.pictures) for part in (task.train, task.validation, task.test)]


@dataclass(frozen=True, slots=True)
class Protocol:
    """A classifier on frozen features with one setting to choose."""

    name: str
    settings: tuple[float, ...]
    prepare: Callable[[], Any]  # what is fitted to the features alone, whatever the setting
    classifier: Callable[[float], Any]


def standardised_and_rotated() -> Any:
    """Standardise, then rotate onto the training part's principal axes, all of them.

    An L2 penalty does not see a rotation, and more axes than pictures cannot matter, so the probe's solution is the
    same and cheaper to reach.
    """
    return make_pipeline(StandardScaler(), PCA(svd_solver="full"))


def logistic_regression(strength: float) -> Any:
    """Multinomial, by L-BFGS in float64; `strength` is C, the inverse of the L2 penalty."""
    return LogisticRegression(C=strength, max_iter=MOST_ITERATIONS)


def nearest_neighbours(k: float) -> Any:
    """Majority of the k nearest by cosine."""
    return KNeighborsClassifier(n_neighbors=int(k), metric="cosine")


LINEAR_PROBE = Protocol("linear probe", (1e-4, 1e-3, 1e-2, 1e-1, 1.0), standardised_and_rotated, logistic_regression)
NEAREST_NEIGHBOURS = Protocol("k-NN", (1.0, 3.0, 5.0, 10.0, 20.0), FunctionTransformer, nearest_neighbours)


def _chosen_and_tested(task: Task, parts: Sequence[Features], protocol: Protocol) -> Score:
    train, validation, test = parts
    fits = _Fits(protocol, train, task.train.labels)
    accuracies = {
        setting: float(np.mean(fits.answers(setting, validation)[0] == task.validation.labels))
        for setting in protocol.settings
        if protocol is LINEAR_PROBE or setting <= len(train)
    }
    chosen = max(accuracies, key=lambda setting: accuracies[setting])
    together = np.concatenate([task.train.labels, task.validation.labels])
    answers, converged = _Fits(protocol, np.vstack([train, validation]), together).answers(chosen, test)
    return Score(
        task=task.name,
        protocol=protocol.name,
        chosen=chosen,
        validation_accuracy=accuracies[chosen],
        converged=converged,
        correct="".join("1" if right else "0" for right in answers == task.test.labels),
        num_classes=len(task.classes),
        num_train=len(together),
        majority=float(np.bincount(task.test.labels).max() / len(task.test.labels)),
    )


class _Fits:
    """A protocol fitted to pictures, prepared once for all its settings."""

    def __init__(self, protocol: Protocol, features: Features, labels: np.ndarray) -> None:
        self._protocol, self._labels = protocol, labels
        self._prepared = protocol.prepare().fit(features)
        self._features = self._prepared.transform(features)

    def answers(self, setting: float, features: Features) -> tuple[np.ndarray, bool]:
        """Return the classes answered for features, and whether the solver converged."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            classifier = self._protocol.classifier(setting).fit(self._features, self._labels)
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        return classifier.predict(self._prepared.transform(features)), converged
