"""Linear probe and nearest neighbours on frozen features.

Both choose their one setting on the task's validation part, are fitted again on training and validation part
together, and are reported on the test part.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.record import Score
from bench.transfer.features import Embed
from bench.transfer.tasks import Task

Features = Float[np.ndarray, "_ features"]  # of a part: each has pictures of its own
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C, the inverse of the L2 penalty
NEIGHBOURS = (1.0, 3.0, 5.0, 10.0, 20.0)  # k
MOST_ITERATIONS = 2000


def score(task: Task, embed: Embed) -> list[Score]:
    """Score features on a task by both protocols."""
    parts = [embed(part.pixels) for part in (task.train, task.validation, task.test)]
    return [
        _chosen_and_tested(task, parts, "linear probe", STRENGTHS, logistic_regression),
        _chosen_and_tested(task, parts, "k-NN", NEIGHBOURS, nearest_neighbours),
    ]


def logistic_regression(strength: float) -> Any:
    """Multinomial logistic regression by L-BFGS in float64 on standardised features.

    The features are rotated onto the training part's principal axes, all of them: an L2 penalty does not see a
    rotation, and more axes than pictures cannot matter, so the solution is the same and cheaper to reach.
    """
    regression = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS)
    return make_pipeline(StandardScaler(), PCA(svd_solver="full"), regression)


def nearest_neighbours(k: float) -> Any:
    """Majority of the k nearest by cosine."""
    return KNeighborsClassifier(n_neighbors=int(k), metric="cosine")


def _chosen_and_tested(
    task: Task,
    parts: Sequence[Features],
    protocol: str,
    settings: Sequence[float],
    make: Callable[[float], Any],
) -> Score:
    train, validation, test = parts
    accuracies = {}
    for setting in settings:
        if protocol == "k-NN" and setting > len(train):
            continue
        fitted, _ = _fit(make(setting), train, task.train.labels)
        accuracies[setting] = float(np.mean(fitted.predict(validation) == task.validation.labels))
    chosen = max(accuracies, key=lambda setting: accuracies[setting])
    together = np.vstack([train, validation]), np.concatenate([task.train.labels, task.validation.labels])
    fitted, converged = _fit(make(chosen), *together)
    correct = fitted.predict(test) == task.test.labels
    return Score(
        task=task.name,
        protocol=protocol,
        chosen=chosen,
        validation_accuracy=accuracies[chosen],
        converged=converged,
        correct="".join("1" if right else "0" for right in correct),
        num_classes=len(task.classes),
        num_train=len(together[0]),
        majority=float(np.bincount(task.test.labels).max() / len(task.test.labels)),
    )


def _fit(model: Any, features: Features, labels: np.ndarray) -> tuple[Any, bool]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, labels)
    return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
