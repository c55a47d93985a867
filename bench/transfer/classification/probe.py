"""Linear probe and nearest neighbours on frozen features, and accuracy against the number of labelled images.

Both classifiers choose their one setting on the task's validation part, are refitted on training and validation part
together, and are reported on the test part. For the curves each draw orders the images of every class in the training
and the validation part; a point takes the first of them: a few per class, or a share of all. The order depends only on
the task and the draw, so that all feature extractors get the same images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    HyperparameterSearch,
)
from bench.transfer.classification.label_subsets import (
    Rows,
    RowsByClass,
    list_distinct_shares,
    select_first_rows_of_each_class,
    shuffle_rows_by_class,
)
from bench.transfer.classification.logistic import (
    StandardisedPrincipalAxes,
    fit_regularisation_path,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.feature_matrix import MAX_IN_MEMORY, concatenate_batches
from bench.transfer.tasks.tasks import SingleLabelTask, TaskWithSplits

NEIGHBOUR_COUNTS = (1.0, 3.0, 5.0, 10.0, 20.0)
MAX_COSINES = 2**24  # cosines, or normalised features, in memory at once
COSINE_STEPS = 2**31  # per unit of the cosine; a sort key has as many bits again for the row
DRAWS = 10
SHOTS = (1, 2, 4, 8, 16)
MAX_SHOTS_TO_TUNE = 4


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


class ShuffledRowsOfEachClass(NamedTuple):
    """The rows of each class in the order of a draw, for the training and the validation part."""

    train: RowsByClass
    validation: RowsByClass


@dataclass(frozen=True, slots=True)
class ProbeProtocol:
    """A classifier on frozen features with one setting to choose.

    `predict` takes training features, features to classify and settings, and yields the predictions of each setting.
    """

    name: str
    settings: tuple[float, ...]
    predict: Callable[[LabelledFeatures, Tensor, Iterable[float]], Iterator[ProbePrediction]]
    # Smallest and largest setting that is tried if an end of the grid is the best; None: the grid is not extended.
    limits: tuple[float, float] | None = None
    is_tuned_on_sample: bool = False  # where the features of the training part do not fit in memory


def predict_by_logistic_regression(
    train: LabelledFeatures,
    queries: Float[Tensor, "queries features"],
    inverse_penalties: Iterable[float],
) -> Iterator[ProbePrediction]:
    """Fit logistic regression for each inverse penalty (scikit-learn's C), and yield what it predicts for queries."""
    axes = StandardisedPrincipalAxes.fit(train.features)
    projected_train = axes.project_and_append_ones(train.features)
    projected_queries = axes.project_and_append_ones(queries)
    for fit in fit_regularisation_path(projected_train, train.labels, inverse_penalties):
        yield ProbePrediction(fit.predict(projected_queries), fit.converged)


def _find_majority_classes(neighbour_classes: Int[Tensor, "queries k"]) -> Int[Tensor, " queries"]:
    """Return the commonest class of each row; of equally common classes the first in the row."""
    votes = (neighbour_classes.unsqueeze(2) == neighbour_classes.unsqueeze(1)).sum(2)
    winner = votes.argmax(1, keepdim=True)
    return neighbour_classes.gather(1, winner).squeeze(1)


def predict_by_neighbours(
    train: LabelledFeatures, queries: Float[Tensor, "queries features"], ks: Iterable[float]
) -> Iterator[ProbePrediction]:
    """Yield the majority class of each query's k nearest neighbours by cosine; k is at most the size of `train`.

    Neighbours whose cosines differ by less than 2 ** -31 are in the order of the training rows. Of classes with equally
    many votes the one with the nearest neighbour wins. At most `MAX_COSINES` numbers are in memory at once.
    """
    sizes = [min(int(k), len(train.labels)) for k in ks]
    bank = F.normalize(train.features.double())
    # Of equal cosines the first row has the largest key.
    order = torch.arange(len(bank), 0, -1, device=bank.device)
    predictions_by_block = []
    largest = max(sizes)
    numbers_per_query = max(*bank.shape, largest**2)
    block_size = max(1, MAX_COSINES // numbers_per_query)
    for block in torch.split(queries, block_size):
        cosines = F.normalize(block.double()) @ bank.T
        rounded = cosines.mul_(COSINE_STEPS).round_().long()
        keys = rounded.mul_(COSINE_STEPS).add_(order)
        nearest = train.labels[keys.topk(largest, dim=1).indices]
        classes = [_find_majority_classes(nearest[:, :size]) for size in sizes]
        predictions_by_block.append(torch.stack(classes))
    for classes_of_size in torch.cat(predictions_by_block, dim=1):
        yield ProbePrediction(classes_of_size, converged=True)


LINEAR_PROBE = ProbeProtocol(
    "linear probe",
    INVERSE_L2,
    predict_by_logistic_regression,
    INVERSE_L2_LIMITS,
    is_tuned_on_sample=True,
)
NEAREST_NEIGHBOURS = ProbeProtocol("k-NN", NEIGHBOUR_COUNTS, predict_by_neighbours)
RETRIEVAL = ProbeProtocol("retrieval", (1.0,), predict_by_neighbours)
FEW_SHOT = replace(LINEAR_PROBE, name="few-shot")
LABEL_FRACTIONS = replace(LINEAR_PROBE, name="label fractions")


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
    """Return a linear probe's accuracy on the validation part, at the best penalty; the test part is not read."""
    embedded = embed_task(extractor, replace(task, test=task.validation))
    tuned = embedded.train.sample_to_fit_memory()
    search, _ = _search_best_setting(LINEAR_PROBE, embedded, tuned, embedded.validation.features)
    return max(search.qualities)


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


def shuffle_rows_for_draws(task: EmbeddedTask) -> list[ShuffledRowsOfEachClass]:
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
        orders.append(ShuffledRowsOfEachClass(train, validation))
    return orders


def score_after_refit(
    protocol: ProbeProtocol, task: EmbeddedTask, **score_fields: Any
) -> AccuracyScore:
    """Choose the setting on the validation part, refit on both parts, and score on the test part."""
    tuned = task.train.sample_to_fit_memory() if protocol.is_tuned_on_sample else task.train
    search, _ = _search_best_setting(protocol, task, tuned, task.validation.features)
    both = task.train.concatenate(task.validation)
    prediction = next(protocol.predict(both, task.test.features, [search.best_setting]))
    return _make_probe_score(protocol, task, search, prediction, len(both.labels), **score_fields)


def score_without_refit(
    protocol: ProbeProtocol, task: EmbeddedTask, **score_fields: Any
) -> AccuracyScore:
    """Choose the setting on the validation part, and score on the test part the fit to the training part alone."""
    queries = torch.cat([task.validation.features, task.test.features])
    search, predictions = _search_best_setting(protocol, task, task.train, queries)
    best = predictions[search.settings.index(search.best_setting)]
    test_prediction = best._replace(classes=best.classes[len(task.validation.labels) :])
    return _make_probe_score(
        protocol, task, search, test_prediction, len(task.train.labels), **score_fields
    )


def _search_best_setting(
    protocol: ProbeProtocol, task: EmbeddedTask, train: LabelledFeatures, queries: Tensor
) -> tuple[HyperparameterSearch, list[ProbePrediction]]:
    """Return the search for the best setting on the validation part, and the predictions for queries by setting.

    The queries begin with the validation part.
    """
    labels = task.validation.labels
    search = HyperparameterSearch(protocol.settings, protocol.limits)
    predictions = []
    for prediction in protocol.predict(train, queries, search):
        correct = prediction.classes[: len(labels)] == labels
        search.qualities.append(float(correct.double().mean()))
        predictions.append(prediction)
    return search, predictions


def _make_probe_score(
    protocol: ProbeProtocol,
    task: EmbeddedTask,
    search: HyperparameterSearch,
    prediction: ProbePrediction,
    num_train: int,
    **score_fields: Any,
) -> AccuracyScore:
    """Return the score of a prediction for the test part at the best setting of a search."""
    return make_test_score(
        task,
        protocol.name,
        chosen=search.best_setting,
        validation_accuracy=max(search.qualities),
        correct=prediction.classes == task.test.labels,
        converged=prediction.converged,
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
    scores = []
    for draw, (train, validation) in enumerate(shuffle_rows_for_draws(embedded)):
        for shots in SHOTS:
            validation_rows = select_first_rows_of_each_class(
                validation, shots=min(shots, MAX_SHOTS_TO_TUNE)
            )
            subset = embedded.select(
                select_first_rows_of_each_class(train, shots=shots), validation_rows
            )
            scores.append(score_without_refit(FEW_SHOT, subset, per_class=shots, draw=draw))
    return scores


def score_label_fractions(
    extractor: FeatureExtractor, task: SingleLabelTask
) -> list[AccuracyScore]:
    """Score with 1, 5, 10, 25, 50 and 100 % of the labelled images of each class, at least one.

    A share that selects the same images as a smaller share, or as all, is left out. The same share of the validation
    part is used to choose the penalty, then both are fitted to. All labels are a single draw, and the linear probe.
    """
    embedded = embed_task(extractor, task)
    orders = shuffle_rows_for_draws(embedded)
    *shares, all_labels = list_distinct_shares(orders[0])
    scores = []
    for draw, (train, validation) in enumerate(orders):
        for share in shares:
            rows = select_first_rows_of_each_class(train, share=share)
            subset = embedded.select(rows, select_first_rows_of_each_class(validation, share=share))
            scores.append(score_after_refit(LABEL_FRACTIONS, subset, label_share=share, draw=draw))
    return [*scores, score_after_refit(LABEL_FRACTIONS, embedded, label_share=all_labels)]
