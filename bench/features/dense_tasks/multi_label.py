"""Multi-label protocols: a linear head on frozen features, and fine-tuning of the whole tower.

Both choose their one setting on the validation part by macro mAP, are refitted on training and validation part
together, and are reported on the test part. The linear head is one logistic regression per class, solved together.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch import Tensor

from bench.console.console import log
from bench.features.dense_tasks.multi_label_tasks import MultiLabelPart, MultiLabelTask
from bench.records.scores import MetricScore, TaskTraining
from bench.transfer.classification.fine_tune import (
    FineTunedClassifier,
    FineTuning,
    candidate_rates,
    compute_logits,
    init_head,
    recipe_for,
    search_learning_rate,
    train_classifier_copy,
)
from bench.transfer.classification.hyperparameter_search import (
    INVERSE_L2,
    INVERSE_L2_LIMITS,
    HyperparameterSearch,
)
from bench.transfer.classification.logistic import PrincipalAxes, Projected
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.image_sources import join_first_names
from bench.transfer.transfer_training import PUBLISHED_WIDTH
from losses.chunks import LINEAR_FROM
from losses.multilabel import multilabel_loss

# CatLIP's recipe on COCO, without RangeAugment and the sampler of several image sizes. Source: apple/corenet 1aa3acd,
# `projects/catlip/multi_label_image_classification/vit_{base,large}.yaml` (32 images on each of 4 GPUs).
RELEASED = FineTuning(
    learning_rate=1e-5,
    min_learning_rate=1e-6,
    label_smoothing=0.0,
    batch_size=128,
    image_size=512,
    resize_over_crop=1.0,
)
PAPER = replace(RELEASED, batch_size=32)  # Mehta et al. 2024, arXiv:2404.15653, table 6
UNJUDGED_TARGET = -1
Scores = Float[np.ndarray, "images classes"]
MAX_ITERATIONS = 2000
TOLERANCE = 1e-7  # of each partial derivative of the mean loss, in nats


def score_linear(subject: FeatureExtractor, task: MultiLabelTask) -> list[MetricScore]:
    """Score a linear head on frozen features; of equally good penalties the strongest is chosen."""
    parts = (task.train, task.validation, task.test)
    features = [
        torch.from_numpy(subject.embed(part.images)).to(subject.device, torch.float64)
        for part in parts
    ]
    train, validation, test = features

    def scores(
        features: Tensor, part: MultiLabelPart, scored: Tensor, strengths: Iterable[float]
    ) -> Iterator[Scores]:
        axes = PrincipalAxes.fit(features)
        labels, unjudged = (
            torch.from_numpy(mask).to(subject.device) for mask in (part.labels, part.unjudged)
        )
        for fit in fit_sigmoids(axes.project(features), labels, unjudged, strengths):
            if not fit.converged:
                log(
                    f"{task.name}: the linear head of {subject.name} at {fit.strength:g} has not converged"
                )
            yield fit.logits(axes.project(scored)).cpu().numpy()

    search = HyperparameterSearch(INVERSE_L2, INVERSE_L2_LIMITS)
    for validation_scores in scores(train, task.train, validation, search):
        search.qualities.append(mean_average_precision(validation_scores, task.validation)["macro"])
    joint = task.train.concatenate(task.validation)
    test_scores = next(scores(torch.cat([train, validation]), joint, test, [search.best]))
    return task_metrics(task, "multi-label, linear", test_scores, joint)


def score_fine_tuned(
    subject: FeatureExtractor,
    task: MultiLabelTask,
    protocol: str = "multi-label, fine-tuned",
    published: FineTuning = RELEASED,
) -> list[MetricScore]:
    """Fine-tune the subject's tower with a new head, by binary cross-entropy summed over classes.

    Towers narrower than ViT-B keep their own image size.
    """
    assert subject.tower is not None, f"{subject.name} has no tower"
    tower = subject.tower
    device = subject.device
    count = len(task.train.images)
    head = init_head(tower.width, len(task.classes), seed=0)
    if tower.width < PUBLISHED_WIDTH:
        published = replace(published, image_size=None, resize_over_crop=None)

    def fit(part: MultiLabelPart, recipe: FineTuning) -> FineTunedClassifier:
        return train_classifier_copy(
            tower, head, part.images, make_loss(part, device), recipe, device
        )

    def scores(model: FineTunedClassifier, part: MultiLabelPart) -> Scores:
        return (
            compute_logits(model, part.images, device, published.resize_over_crop).double().numpy()
        )

    def quality(recipe: FineTuning) -> float:
        return mean_average_precision(
            scores(fit(task.train, recipe), task.validation), task.validation
        )["macro"]

    recipe, _ = search_learning_rate(
        recipe_for(published, count), candidate_rates(tower, count, published), quality
    )
    joint = task.train.concatenate(task.validation)
    model = fit(joint, recipe)
    training = recipe.task_training(len(joint.images), model.tower.image_size, recipe.learning_rate)
    return task_metrics(task, protocol, scores(model, task.test), joint, training)


score_as_in_paper = partial(
    score_fine_tuned, protocol="multi-label, fine-tuned, paper", published=PAPER
)


def make_loss(part: MultiLabelPart, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Return CatLIP's loss of logits against the labels of a part's rows, without unjudged pairs."""
    labels = torch.from_numpy(part.labels)
    unjudged = torch.from_numpy(part.unjudged)

    def loss_of(logits: Tensor, rows: Tensor) -> Tensor:
        positive_rows, positive_columns = labels[rows].nonzero(as_tuple=True)
        loss = multilabel_loss(logits, positive_rows.to(device), positive_columns.to(device))
        unjudged_rows, unjudged_columns = unjudged[rows].nonzero(as_tuple=True)
        unjudged_logits = logits[unjudged_rows.to(device), unjudged_columns.to(device)]
        return loss - F.softplus(unjudged_logits.float()).sum() / len(logits)

    return loss_of


def mean_average_precision(scores: Scores, part: MultiLabelPart) -> dict[str, float]:
    """Return three means from torchmetrics, as CatLIP reports them, which depend only on the order of the scores.

    "macro" is over the classes with positives, "weighted" the same by the number of positives, "micro" over all pairs
    of image and class. Unjudged pairs are left out. ValueError for a score that is not finite, or where no image shows
    any class.
    """
    # Whose import takes a second.
    from torchmetrics.functional.classification import (
        multilabel_average_precision,
    )

    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    shown = part.labels.any(axis=0)
    if not shown.any():
        raise ValueError("no image shows any class")
    # Ranks, because torchmetrics applies a sigmoid to scores outside [0, 1], which makes large scores equal.
    ranks = np.unique(scores, return_inverse=True)[1].reshape(scores.shape)
    predicted = torch.from_numpy(ranks / max(1, int(ranks.max())))
    target = torch.from_numpy(np.where(part.unjudged, UNJUDGED_TARGET, part.labels))

    def mean(average: Literal["macro", "weighted", "micro"], columns: np.ndarray) -> float:
        precision = multilabel_average_precision(
            predicted[:, columns],
            target[:, columns],
            len(columns),
            average,
            ignore_index=UNJUDGED_TARGET,
        )
        return float(precision)

    with_positives = np.flatnonzero(shown)
    return {
        "macro": mean("macro", with_positives),
        "micro": mean("micro", np.arange(scores.shape[1])),
        "weighted": mean("weighted", with_positives),
    }


def task_metrics(
    task: MultiLabelTask,
    protocol: str,
    scores: Scores,
    fitted: MultiLabelPart,
    training: TaskTraining | None = None,
) -> list[MetricScore]:
    """Return the mAPs of scores on the test part, with a constant prediction as the baseline.

    The constant is each class's share of positives in the fitted images: the average precision of a class is then its
    share in the test images, and classes are ranked by frequency.
    """
    precisions = mean_average_precision(scores, task.test)
    shares = fitted.labels.sum(axis=0) / np.maximum(1, (~fitted.unjudged).sum(axis=0))
    constant = mean_average_precision(np.broadcast_to(shares, scores.shape), task.test)
    absent = [task.classes[column] for column in np.flatnonzero(~task.test.labels.any(axis=0))]
    if absent:
        why = "are left out of the macro and the weighted mean, because no test image shows them"
        log(f"{task.name}: {len(absent)} classes {why}: {join_first_names(absent)}")
    return [
        MetricScore(
            task=task.name,
            protocol=protocol,
            name=f"{name} mAP",
            value=value,
            num_train=len(fitted.images),
            num_test=len(task.test.images),
            baseline=constant[name],
            training=training,
        )
        for name, value in precisions.items()
    ]


@dataclass(frozen=True, slots=True)
class SigmoidFit:
    """A solution in the coordinates of the axes."""

    strength: float
    weights: Float[Tensor, "rows classes"]  # one row per axis, and the biases
    converged: bool

    def logits(self, projected: Projected) -> Float[Tensor, "images classes"]:
        return projected @ self.weights


def fit_sigmoids(
    projected: Projected,
    labels: Bool[Tensor, "images classes"],
    unjudged: Bool[Tensor, "images classes"],
    strengths: Iterable[float],
) -> Iterator[SigmoidFit]:
    """Yield a fit for each strength, started from the fit before, which is fastest from small to large.

    The objective of each class is `strength` x the summed binary cross-entropy + half the squared norm of its weights,
    without the bias: scikit-learn's logistic regression with C = `strength`. Classes are independent, and solved
    together by L-BFGS in float64 to share the matrix products. Weights are scaled by their curvature at a logit of 0.
    """
    inputs = projected
    count = len(inputs)
    device = inputs.device
    shown = labels.to(inputs.dtype)
    judged = (~unjudged).to(inputs.dtype)
    shares = (shown.sum(0) + 1) / (judged.sum(0) + 2)
    weights = torch.zeros(inputs.shape[1], labels.shape[1], dtype=inputs.dtype, device=device)
    shape = weights.shape
    weights[-1] = shares.logit()  # the optimum for weights of 0
    for strength in strengths:
        penalty = inputs.new_full((inputs.shape[1], 1), 1 / (strength * count))
        penalty[-1] = 0
        unit = (inputs.square().mean(0)[:, None] / 4 + penalty).rsqrt()

        def loss(
            scaled: np.ndarray, unit: Tensor = unit, penalty: Tensor = penalty
        ) -> tuple[float, np.ndarray]:
            tried = torch.from_numpy(scaled).to(device).view(shape) * unit
            logits = inputs @ tried
            entropies = (F.softplus(logits, threshold=LINEAR_FROM) - shown * logits) * judged
            slope = inputs.T @ ((logits.sigmoid() - shown) * judged) / count + penalty * tried
            value = entropies.sum() / count + (penalty * tried.square()).sum() / 2
            return float(value), (slope * unit).flatten().cpu().numpy()

        limits = {
            "maxiter": MAX_ITERATIONS,
            "maxfun": 2 * MAX_ITERATIONS,
            "gtol": TOLERANCE,
            "ftol": 0.0,
        }
        start = (weights / unit).flatten().cpu().numpy()
        solution = minimize(loss, start, jac=True, method="L-BFGS-B", options=limits)
        weights = torch.from_numpy(solution.x).to(device).view(shape) * unit
        yield SigmoidFit(strength, weights, converged=bool(solution.success))
