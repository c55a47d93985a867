"""Linear probe and nearest neighbours on frozen features, and accuracy against the number of labelled images.

Both classifiers choose their one setting on the task's validation part, are refitted on training and validation part
together, and are reported on the test part. For the curves each draw orders the images of every class in the training
and the validation part; a point takes the first of them: a few per class, or a share of all. The order depends only on
the task and the draw, so that all feature extractors get the same images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bench.records.scores import AccuracyScore
from bench.transfer.classification.hyperparameter_search import (
    INVERSE_L2,
    INVERSE_L2_LIMITS,
    find_best_setting,
)
from bench.transfer.classification.label_subsets import (
    RowOrdersOfDraw,
    Rows,
    iterate_share_subsets,
    make_shots_subset,
    shuffle_rows_by_class,
)
from bench.transfer.classification.logistic import RegularisationPath, StandardisedPrincipalAxes
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.feature_matrix import MAX_IN_MEMORY, concatenate_batches
from bench.transfer.tasks.tasks import SingleLabelTask, TaskWithSplits

NEIGHBOUR_COUNTS = (1.0, 3.0, 5.0, 10.0, 20.0)
MAX_NEIGHBOURS = 20
MAX_COSINES = 2**24  # cosines, or normalised features, in memory at once
COSINE_STEPS = 2**31  # per unit of the cosine; a sort key has as many bits again for the row
DRAWS = 10
SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFeatures:
    """Features of images and their class numbers."""

    features: Float[Tensor, "*draws images features"]
    labels: Int[Tensor, "*draws images"]

    def select(self, rows: Sequence[int] | np.ndarray | Tensor) -> "LabelledFeatures":
        chosen = torch.as_tensor(rows, device=self.features.device)
        return LabelledFeatures(self.features[chosen], self.labels[chosen.to(self.labels.device)])

    def concatenate(self, other: "LabelledFeatures") -> "LabelledFeatures":
        labels = torch.cat([self.labels, other.labels])
        return LabelledFeatures(
            concatenate_batches([self.features, other.features], len(labels)), labels
        )

    def sample_to_fit_memory(self) -> "LabelledFeatures":
        """Return all images, or as many random ones as fit in memory."""
        count = MAX_IN_MEMORY // self.features.shape[1]
        if count >= len(self.labels):
            return self
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self.labels), generator=generator)
        return self.select(order[:count])


@dataclass(frozen=True, slots=True)
class EmbeddedTask(TaskWithSplits[LabelledFeatures]):
    """A task whose images are embedded."""

    def select(self, train_rows: Rows, validation_rows: Rows) -> "EmbeddedTask":
        """Return the task with these rows of its training and its validation part, and the whole test part."""
        train = self.train.select(train_rows)
        validation = self.validation.select(validation_rows)
        return replace(self, train=train, validation=validation)


class ProbePrediction(NamedTuple):
    """The classes that a probe predicts for images, and whether its fit converged."""

    classes: Int[Tensor, " images"]
    converged: bool


Predict = Callable[[float], ProbePrediction]  # from the setting of a probe


class BestProbe(NamedTuple):
    """What a probe predicts at the setting that is best on the validation part."""

    setting: float
    validation_accuracy: float
    prediction: ProbePrediction


@dataclass(frozen=True, slots=True)
class ProbeProtocol:
    """A classifier on frozen features with one setting to choose."""

    name: str
    settings: tuple[float, ...]
    # Its arguments are the training features and the features to classify.
    make_predict_function: Callable[[LabelledFeatures, Tensor], Predict]
    # Smallest and largest setting that is tried if an end of the grid is the best; None: the grid is not extended.
    limits: tuple[float, float] | None = None
    is_tuned_on_sample: bool = False  # where the features of the training part do not fit in memory


def predict_by_logistic_regression(
    train: LabelledFeatures, queries: Float[Tensor, "queries features"]
) -> Predict:
    """Return a function from an inverse penalty (scikit-learn's C) to what logistic regression predicts for queries."""
    axes = StandardisedPrincipalAxes.fit(train.features)
    path = RegularisationPath(axes.project_and_append_ones(train.features), train.labels)
    projected_queries = axes.project_and_append_ones(queries)

    def predict(inverse_penalty: float) -> ProbePrediction:
        fit = path.fit(inverse_penalty)
        return ProbePrediction(fit.predict(projected_queries), fit.converged)

    return predict


def _find_majority_classes(neighbour_classes: Int[Tensor, "queries k"]) -> Int[Tensor, " queries"]:
    """Return the commonest class of each row; of equally common classes the first in the row."""
    votes = (neighbour_classes.unsqueeze(2) == neighbour_classes.unsqueeze(1)).sum(2)
    winner = votes.argmax(1, keepdim=True)
    return neighbour_classes.gather(1, winner).squeeze(1)


def predict_by_neighbours(
    train: LabelledFeatures,
    queries: Float[Tensor, "queries features"],
    max_neighbours: int = MAX_NEIGHBOURS,
) -> Predict:
    """Return a function from k to the majority class of each query's k nearest neighbours by cosine.

    k is at most `max_neighbours` and the size of `train`. Neighbours whose cosines differ by less than 2 ** -31 are in
    the order of the training rows. Of classes with equally many votes the one with the nearest neighbour wins. At most
    `MAX_COSINES` numbers are in memory at once.
    """
    bank = F.normalize(train.features.double())
    # Of equal cosines the first row has the largest key.
    order = torch.arange(len(bank), 0, -1, device=bank.device)
    numbers_per_query = max(*bank.shape, max_neighbours**2)
    block_size = max(1, MAX_COSINES // numbers_per_query)
    blocks = []
    for block in torch.split(queries, block_size):
        cosines = F.normalize(block.double()) @ bank.T
        rounded = cosines.mul_(COSINE_STEPS).round_().long()
        keys = rounded.mul_(COSINE_STEPS).add_(order)
        nearest_rows = keys.topk(min(max_neighbours, len(bank)), dim=1).indices
        blocks.append(train.labels[nearest_rows])

    def predict(k: float) -> ProbePrediction:
        classes = [_find_majority_classes(block[:, : int(k)]) for block in blocks]
        return ProbePrediction(torch.cat(classes), converged=True)

    return predict


LINEAR_PROBE = ProbeProtocol(
    "linear probe",
    INVERSE_L2,
    predict_by_logistic_regression,
    INVERSE_L2_LIMITS,
    is_tuned_on_sample=True,
)
NEAREST_NEIGHBOURS = ProbeProtocol("k-NN", NEIGHBOUR_COUNTS, predict_by_neighbours)
RETRIEVAL = ProbeProtocol("retrieval", (1.0,), partial(predict_by_neighbours, max_neighbours=1))
FEW_SHOT = replace(LINEAR_PROBE, name="few-shot")
LABEL_SHARES = replace(LINEAR_PROBE, name="label fractions")


def score_linear_probe(extractor: FeatureExtractor, task: SingleLabelTask) -> list[AccuracyScore]:
    """Score by multinomial logistic regression on frozen features."""
    return [score_after_refit(LINEAR_PROBE, embed_task(extractor, task))]


def score_k_nn(extractor: FeatureExtractor, task: SingleLabelTask) -> list[AccuracyScore]:
    """Score by the majority of the nearest neighbours by cosine."""
    return [score_after_refit(NEAREST_NEIGHBOURS, embed_task(extractor, task))]


def score_retrieval_at_1(extractor: FeatureExtractor, task: SingleLabelTask) -> list[AccuracyScore]:
    """Score R@1: the share of queries whose nearest image of the gallery, by cosine, has their class.

    The training part is the gallery; nothing is fitted, and nothing is chosen.
    """
    return [score_without_refit(RETRIEVAL, embed_task(extractor, task))]


def validate_linear_probe(extractor: FeatureExtractor, task: SingleLabelTask) -> float:
    """Return a linear probe's accuracy on the validation part, at the best penalty; the test part is not read.

    Raises ValueError for a task without a validation part.
    """
    if not len(task.validation.labels):
        raise ValueError(f"{task.name} has no validation part")
    embedded = embed_task(extractor, replace(task, test=task.validation))
    tuned = embedded.train.sample_to_fit_memory()
    best = _find_best_probe(LINEAR_PROBE, embedded, tuned, embedded.validation.features)
    return best.validation_accuracy


def embed_task(
    extractor: FeatureExtractor,
    task: SingleLabelTask,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float64,
) -> EmbeddedTask:
    """Return a task with the features of its images, by default in float64 on the extractor's device.

    Features that do not fit in memory stay in their file, in float32.
    """
    device = device or extractor.device
    parts = []
    for part in (task.train, task.validation, task.test):
        features = torch.from_numpy(extractor.embed(part.images))
        if features.numel() <= MAX_IN_MEMORY:
            features = features.to(device, dtype)
        parts.append(LabelledFeatures(features, torch.from_numpy(part.labels).to(device)))
    return EmbeddedTask(task.name, task.classes, *parts)


def shuffle_rows_for_draws(task: EmbeddedTask) -> list[RowOrdersOfDraw]:
    """Return the rows of every class, shuffled anew for each of `DRAWS` draws; equal for all feature extractors."""
    train_labels = task.train.labels.cpu().numpy()
    validation_labels = task.validation.labels.cpu().numpy()
    num_classes = len(task.classes)
    orders = []
    for draw in range(DRAWS):
        train = shuffle_rows_by_class(f"{task.name}/train/{draw}", train_labels, num_classes)
        validation = shuffle_rows_by_class(
            f"{task.name}/validation/{draw}", validation_labels, num_classes
        )
        orders.append(RowOrdersOfDraw(train, validation))
    return orders


def score_after_refit(
    protocol: ProbeProtocol, task: EmbeddedTask, **score_fields: Any
) -> AccuracyScore:
    """Choose the setting on the validation part, refit on both parts, and score on the test part."""
    tuned = task.train.sample_to_fit_memory() if protocol.is_tuned_on_sample else task.train
    best = _find_best_probe(protocol, task, tuned, task.validation.features)
    both = task.train.concatenate(task.validation)
    predict = protocol.make_predict_function(both, task.test.features)
    refitted = best._replace(prediction=predict(best.setting))
    return _make_probe_score(protocol, task, refitted, len(both.labels), **score_fields)


def score_without_refit(
    protocol: ProbeProtocol, task: EmbeddedTask, **score_fields: Any
) -> AccuracyScore:
    """Choose the setting on the validation part, and score on the test part the fit to the training part alone."""
    queries = torch.cat([task.validation.features, task.test.features])
    best = _find_best_probe(protocol, task, task.train, queries)
    test_classes = best.prediction.classes[len(task.validation.labels) :]
    best = best._replace(prediction=best.prediction._replace(classes=test_classes))
    return _make_probe_score(protocol, task, best, len(task.train.labels), **score_fields)


def _find_best_probe(
    protocol: ProbeProtocol, task: EmbeddedTask, train: LabelledFeatures, queries: Tensor
) -> BestProbe:
    """Fit at all settings; return the best one on the validation part, with which the queries begin."""
    labels = task.validation.labels
    predict = protocol.make_predict_function(train, queries)
    predictions = {}

    def measure_accuracy(setting: float) -> float:
        predictions[setting] = predict(setting)
        correct = predictions[setting].classes[: len(labels)] == labels
        return float(correct.double().mean())

    best, accuracy = find_best_setting(measure_accuracy, protocol.settings, protocol.limits)
    return BestProbe(best, accuracy, predictions[best])


def _make_probe_score(
    protocol: ProbeProtocol,
    task: EmbeddedTask,
    best: BestProbe,
    num_train: int,
    **score_fields: Any,
) -> AccuracyScore:
    """Return the score of a probe that predicts the classes of the test part."""
    return make_test_score(
        task,
        protocol.name,
        chosen=best.setting,
        validation_accuracy=best.validation_accuracy,
        correct=best.prediction.classes == task.test.labels,
        converged=best.prediction.converged,
        num_train=num_train,
        **score_fields,
    )


def make_test_score(
    task: TaskWithSplits[Any],
    protocol: str,
    chosen: float,
    validation_accuracy: float,
    correct: Bool[Tensor, " images"],
    converged: bool,
    num_train: int,
    **score_fields: Any,
) -> AccuracyScore:
    """Return the score of predictions on a task's test part; `score_fields` are further fields of `AccuracyScore`."""
    labels = torch.as_tensor(task.test.labels)
    return AccuracyScore(
        task=task.name,
        protocol=protocol,
        chosen=chosen,
        validation_accuracy=validation_accuracy,
        converged=converged,
        correct="".join("1" if is_correct else "0" for is_correct in correct.tolist()),
        num_classes=len(task.classes),
        num_train=num_train,
        majority=int(labels.bincount().max()) / len(labels),
        **score_fields,
    )


def score_few_shot(extractor: FeatureExtractor, task: SingleLabelTask) -> list[AccuracyScore]:
    """Score with 1, 2, 4, 8 and 16 images per class, or all images of a smaller class.

    The penalty is chosen on other images, as many per class but at most four, which are not fitted to. So the choice
    costs no more labels than the fit.
    Source: Zhou et al. 2021, arXiv:2109.01134, the linear probe beside CoOp (lpclip/linear_probe.py has the numbers).
    """
    embedded = embed_task(extractor, task)
    orders = shuffle_rows_for_draws(embedded)
    scores = []
    for shots in SHOTS:
        subset = make_shots_subset(orders, shots)
        for draw, rows in enumerate(zip(subset.train_rows, subset.validation_rows, strict=True)):
            drawn = embedded.select(*rows)
            scores.append(score_without_refit(FEW_SHOT, drawn, **subset.score_fields, draw=draw))
    return scores


def score_label_shares(extractor: FeatureExtractor, task: SingleLabelTask) -> list[AccuracyScore]:
    """Score with 1, 5, 10, 25, 50 and 100 % of the labelled images of each class, at least one.

    Scores are returned for each share and draw; all labels are scored once, which is the linear probe. The same share
    of the validation part is used to choose the penalty, then both are fitted to.
    """
    embedded = embed_task(extractor, task)
    *subsets, all_labels = iterate_share_subsets(shuffle_rows_for_draws(embedded))
    scores = []
    for subset in subsets:
        for draw, rows in enumerate(zip(subset.train_rows, subset.validation_rows, strict=True)):
            drawn = embedded.select(*rows)
            scores.append(score_after_refit(LABEL_SHARES, drawn, **subset.score_fields, draw=draw))
    return [*scores, score_after_refit(LABEL_SHARES, embedded, **all_labels.score_fields)]
