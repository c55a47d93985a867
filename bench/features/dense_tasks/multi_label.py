"""Fine-tuning of a tower on images that show several classes, scored by macro mAP.

The learning rate is chosen on the validation part by macro mAP; the tower is then trained on training and validation
part together, and reported on the test part.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bench.records.scores import MetricScore
from bench.transfer.classification.fine_tune import (
    FineTuningRecipe,
    fine_tune_at_best_rate_and_classify_test,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.tasks import LabelledImages, TaskWithSplits
from bench.transfer.transfer_training import PUBLISHED_WIDTH
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


@dataclass(frozen=True, slots=True)
class MultiLabelTask(TaskWithSplits[LabelledImages]):
    """A task whose images show several classes at once, or none."""


def score_multi_label_fine_tuning(
    extractor: FeatureExtractor, task: MultiLabelTask, published: FineTuningRecipe = RELEASED
) -> list[MetricScore]:
    """Fine-tune the extractor's tower with a new head, by binary cross-entropy summed over classes.

    Towers narrower than ViT-B keep their own image size.
    """
    assert extractor.tower is not None, f"{extractor.name} has no tower"
    if extractor.tower.width < PUBLISHED_WIDTH:
        published = replace(published, image_size=None, resize_over_crop=None)

    def measure_quality(logits: Tensor, part: LabelledImages) -> float:
        return compute_mean_average_precision(logits.double().numpy(), part)

    result = fine_tune_at_best_rate_and_classify_test(
        extractor, task, published, compute_multilabel_loss, measure_quality
    )
    constant_logits = torch.zeros_like(result.test_logits)
    score = MetricScore(
        task=task.name,
        protocol="multi-label, fine-tuned",
        name="macro mAP",
        value=measure_quality(result.test_logits, task.test),
        num_train=result.num_train,
        num_test=len(task.test.labels),
        # Of a constant prediction: the average precision of a class is its share in the test images.
        baseline=measure_quality(constant_logits, task.test),
        training=result.training,
    )
    return [score]


def compute_multilabel_loss(
    logits: Float[Tensor, "batch classes"], labels: Bool[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """Return CatLIP's loss against labels on the CPU."""
    rows, columns = labels.nonzero(as_tuple=True)
    return multilabel_loss(logits, rows.to(logits.device), columns.to(logits.device))


def compute_mean_average_precision(scores: Scores, part: LabelledImages) -> float:
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
