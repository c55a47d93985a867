"""Multi-label protocols: a linear head on frozen features, and fine-tuning of the whole tower.

Both choose their one setting on the validation part by macro mAP, are refitted on training and validation part
together, and are reported on the test part. The linear head is one logistic regression per class, solved together.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch import Tensor

from bench.console.console import log
from bench.records.scores import MetricScore, TaskTraining
from bench.transfer.classification.fine_tune import (
    FineTuning,
    adapt_recipe,
    compute_logits,
    find_recipe_with_best_rate,
    list_candidate_rates,
    make_random_head,
    train_classifier_copy,
)
from bench.transfer.classification.hyperparameter_search import (
    INVERSE_L2,
    INVERSE_L2_LIMITS,
    HyperparameterSearch,
)
from bench.transfer.classification.logistic import PrincipalAxes, Projected
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.image_sources import ConcatenatedImages, FileImageSource, ImageSource
from bench.transfer.tasks.tasks import TaskWithSplits
from bench.transfer.transfer_training import PUBLISHED_WIDTH
from losses.chunks import SOFTPLUS_LINEAR_FROM
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
Scores = Float[np.ndarray, "images classes"]
MAX_ITERATIONS = 2000
TOLERANCE = 1e-7  # of each partial derivative of the mean loss, in nats


@dataclass(frozen=True, slots=True, eq=False)
class MultiLabelPart:
    """Images, and for each image and class whether the image shows it."""

    images: ImageSource
    labels: Bool[np.ndarray, "images classes"]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: Sequence[int]) -> "MultiLabelPart":
        assert isinstance(self.images, FileImageSource)
        return MultiLabelPart(self.images.select(rows), self.labels[rows])

    def concatenate(self, other: "MultiLabelPart") -> "MultiLabelPart":
        images = ConcatenatedImages(self.images, other.images)
        return MultiLabelPart(images, np.vstack([self.labels, other.labels]))


@dataclass(frozen=True, slots=True)
class MultiLabelTask(TaskWithSplits[MultiLabelPart]):
    """A task whose images show several classes at once, or none."""


def score_linear(extractor: FeatureExtractor, task: MultiLabelTask) -> list[MetricScore]:
    """Score a linear head on frozen features; of equally good penalties the strongest is chosen."""
    train, validation, test = (
        torch.from_numpy(extractor.embed(part.images)).to(extractor.device, torch.float64)
        for part in (task.train, task.validation, task.test)
    )

    def fit_and_score(
        features: Tensor, part: MultiLabelPart, scored: Tensor, strengths: Iterable[float]
    ) -> Iterator[Scores]:
        """Fit a head to the features of a part for each strength, and yield its scores of other features."""
        axes = PrincipalAxes.fit(features)
        projected = axes.project(features)
        labels = torch.from_numpy(part.labels).to(extractor.device)
        for weights in fit_sigmoid_heads(projected, labels, strengths):
            logits = axes.project(scored) @ weights
            yield logits.cpu().numpy()

    search = HyperparameterSearch(INVERSE_L2, INVERSE_L2_LIMITS)
    for validation_scores in fit_and_score(train, task.train, validation, search):
        search.qualities.append(mean_average_precision(validation_scores, task.validation))
    joint = task.train.concatenate(task.validation)
    joint_features = torch.cat([train, validation])
    (test_scores,) = fit_and_score(joint_features, joint, test, [search.best])
    return macro_map_scores(task, "multi-label, linear", test_scores, joint)


def score_fine_tuned(
    extractor: FeatureExtractor, task: MultiLabelTask, published: FineTuning = RELEASED
) -> list[MetricScore]:
    """Fine-tune the extractor's tower with a new head, by binary cross-entropy summed over classes.

    Towers narrower than ViT-B keep their own image size.
    """
    assert extractor.tower is not None, f"{extractor.name} has no tower"
    tower = extractor.tower
    device = extractor.device
    count = len(task.train)
    head = make_random_head(tower.width, len(task.classes), seed=0)
    if tower.width < PUBLISHED_WIDTH:
        published = replace(published, image_size=None, resize_over_crop=None)

    def fit_and_score(fitted: MultiLabelPart, scored: MultiLabelPart, recipe: FineTuning) -> Scores:
        loss = make_multilabel_loss(fitted, device)
        model = train_classifier_copy(tower, head, fitted.images, loss, recipe, device)
        logits = compute_logits(model, scored.images, device, published.resize_over_crop)
        return logits.double().numpy()

    def quality(recipe: FineTuning) -> float:
        scores = fit_and_score(task.train, task.validation, recipe)
        return mean_average_precision(scores, task.validation)

    rates = list_candidate_rates(tower, count, published)
    recipe, _ = find_recipe_with_best_rate(adapt_recipe(published, count), rates, quality)
    joint = task.train.concatenate(task.validation)
    scores = fit_and_score(joint, task.test, recipe)
    image_size = published.image_size or tower.image_size
    training = recipe.make_task_training(len(joint), image_size, recipe.learning_rate)
    return macro_map_scores(task, "multi-label, fine-tuned", scores, joint, training)


def make_multilabel_loss(
    part: MultiLabelPart, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function (logits, rows) -> CatLIP's loss against the labels of these rows of the part."""
    labels = torch.from_numpy(part.labels)

    def loss_of(logits: Tensor, rows: Tensor) -> Tensor:
        positive_rows, positive_columns = labels[rows].nonzero(as_tuple=True)
        return multilabel_loss(logits, positive_rows.to(device), positive_columns.to(device))

    return loss_of


def mean_average_precision(scores: Scores, part: MultiLabelPart) -> float:
    """Return the mean average precision over the classes with positives; it depends only on the order of the scores.

    ValueError for a score that is not finite, or where no image shows any class.
    """
    # The import takes a second.
    from torchmetrics.functional.classification import multilabel_average_precision

    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    has_positives = torch.from_numpy(part.labels.any(axis=0))
    if not has_positives.any():
        raise ValueError("no image shows any class")
    # Ranks, because torchmetrics applies a sigmoid to scores outside [0, 1], which makes large scores equal.
    _, ranks = np.unique(scores, return_inverse=True)
    shares = ranks.reshape(scores.shape) / max(1, int(ranks.max()))
    predicted = torch.from_numpy(shares)[:, has_positives]
    target = torch.from_numpy(part.labels)[:, has_positives].long()
    num_classes = int(has_positives.sum())
    return float(multilabel_average_precision(predicted, target, num_classes))


def macro_map_scores(
    task: MultiLabelTask,
    protocol: str,
    scores: Scores,
    fitted: MultiLabelPart,
    training: TaskTraining | None = None,
) -> list[MetricScore]:
    """Return the macro mAP of scores on the test part, with a constant prediction as the baseline.

    The average precision of a class is then its share in the test images.
    """
    return [
        MetricScore(
            task=task.name,
            protocol=protocol,
            name="macro mAP",
            value=mean_average_precision(scores, task.test),
            num_train=len(fitted),
            num_test=len(task.test),
            baseline=mean_average_precision(np.zeros_like(scores), task.test),
            training=training,
        )
    ]


def fit_sigmoid_heads(
    projected: Projected, labels: Bool[Tensor, "images classes"], strengths: Iterable[float]
) -> Iterator[Float[Tensor, "axes classes"]]:
    """Yield weights for each strength; their last row has the biases. Log fits that have not converged.

    The objective of each class is `strength` x the summed binary cross-entropy + half the squared norm of its weights,
    without the bias: scikit-learn's logistic regression with C = `strength`. Classes are independent, and solved
    together by L-BFGS in float64 to share the matrix products. Weights are scaled by their curvature at a logit of 0.
    Each fit starts from the weights of the previous one, which is fastest from small to large strengths.
    """
    count, num_axes = projected.shape
    device = projected.device
    targets = labels.to(projected.dtype)
    weights = projected.new_zeros(num_axes, labels.shape[1])
    shape = weights.shape
    weights[-1] = ((targets.sum(0) + 1) / (count + 2)).logit()  # the optimum for weights of 0
    for strength in strengths:
        penalty = projected.new_full((num_axes, 1), 1 / (strength * count))
        penalty[-1] = 0
        curvature = projected.square().mean(0)[:, None] / 4 + penalty
        unit = curvature.rsqrt()

        def loss(
            scaled: np.ndarray, unit: Tensor = unit, penalty: Tensor = penalty
        ) -> tuple[float, np.ndarray]:
            """Return the mean objective and its gradient with respect to the scaled weights."""
            candidate = torch.from_numpy(scaled).to(device).view(shape) * unit
            logits = projected @ candidate
            entropies = F.softplus(logits, threshold=SOFTPLUS_LINEAR_FROM) - targets * logits
            slope = projected.T @ (logits.sigmoid() - targets) / count + penalty * candidate
            value = entropies.sum() / count + (penalty * candidate.square()).sum() / 2
            return float(value), (slope * unit).flatten().cpu().numpy()

        limits = {
            "maxiter": MAX_ITERATIONS,
            "maxfun": 2 * MAX_ITERATIONS,
            "gtol": TOLERANCE,
            "ftol": 0.0,
        }
        start = (weights / unit).flatten().cpu().numpy()
        solution = minimize(loss, start, jac=True, method="L-BFGS-B", options=limits)
        if not solution.success:
            log(f"a linear head of several classes at C = {strength:g} has not converged")
        weights = torch.from_numpy(solution.x).to(device).view(shape) * unit
        yield weights
