"""Fine-tuning of a tower on images that show several classes, scored by macro mAP.

The learning rate is chosen on the validation part by macro mAP; the tower is then trained on training and validation
part together, and reported on the test part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.records.scores import MetricScore
from bench.transfer.classification.fine_tune import (
    FineTuningRecipe,
    adapt_recipe,
    compute_logits,
    list_candidate_learning_rates,
    make_random_head,
    train_classifier_copy,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.image_sources import ConcatenatedImages, FileImageSource, ImageSource
from bench.transfer.tasks.tasks import TaskWithSplits
from bench.transfer.transfer_training import PUBLISHED_WIDTH, find_best_learning_rate
from losses.multilabel import multilabel_loss

# CatLIP's recipe on COCO, without RangeAugment and the sampler of several image sizes. Source: apple/corenet 1aa3acd,
# `projects/catlip/multi_label_image_classification/vit_{base,large}.yaml` (32 images on each of 4 GPUs).
RELEASED = FineTuningRecipe(
    learning_rate=1e-5,
    final_learning_rate_ratio=1e-6 / 1e-5,
    label_smoothing=0.0,
    batch_size=128,
    image_size=512,
    resize_over_crop=1.0,
)
Scores = Float[np.ndarray, "images classes"]


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


def score_multi_label_fine_tuning(
    extractor: FeatureExtractor, task: MultiLabelTask, published: FineTuningRecipe = RELEASED
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

    def fit_and_score(
        fitted: MultiLabelPart, scored: MultiLabelPart, recipe: FineTuningRecipe
    ) -> Scores:
        loss = make_multilabel_loss(fitted, device)
        model = train_classifier_copy(tower, head, fitted.images, loss, recipe, device)
        logits = compute_logits(model, scored.images, device, published.resize_over_crop)
        return logits.double().numpy()

    recipe = adapt_recipe(published, count)

    def quality(rate: float) -> float:
        scores = fit_and_score(task.train, task.validation, replace(recipe, learning_rate=rate))
        return compute_mean_average_precision(scores, task.validation)

    rate, _ = find_best_learning_rate(
        list_candidate_learning_rates(tower, count, published), quality
    )
    recipe = replace(recipe, learning_rate=rate)
    joint = task.train.concatenate(task.validation)
    scores = fit_and_score(joint, task.test, recipe)
    image_size = published.image_size or tower.image_size
    training = recipe.make_task_training(len(joint), image_size, recipe.learning_rate)
    return [
        MetricScore(
            task=task.name,
            protocol="multi-label, fine-tuned",
            name="macro mAP",
            value=compute_mean_average_precision(scores, task.test),
            num_train=len(joint),
            num_test=len(task.test),
            # Of a constant prediction: the average precision of a class is its share in the test images.
            baseline=compute_mean_average_precision(np.zeros_like(scores), task.test),
            training=training,
        )
    ]


def make_multilabel_loss(
    part: MultiLabelPart, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function (logits, rows) -> CatLIP's loss against the labels of these rows of the part."""
    labels = torch.from_numpy(part.labels)

    def loss_of(logits: Tensor, rows: Tensor) -> Tensor:
        positive_rows, positive_columns = labels[rows].nonzero(as_tuple=True)
        return multilabel_loss(logits, positive_rows.to(device), positive_columns.to(device))

    return loss_of


def compute_mean_average_precision(scores: Scores, part: MultiLabelPart) -> float:
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
