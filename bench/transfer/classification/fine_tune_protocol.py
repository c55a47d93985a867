"""Fine-tuning as a protocol: the learning rate is chosen on the validation part, the test part is used once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from bench.record import Score
from bench.transfer.classification.fine_tune import (
    FineTunedClassifier,
    FineTuning,
    compute_logits,
    fine_tune,
    init_head,
)
from bench.transfer.classification.probe import make_score
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.pictures import ImageSource
from bench.transfer.tasks.tasks import Task, TaskSplit
from bench.transfer.transfer_training import PUBLISHED_WIDTH, find_best_rate
from models.image_tower import ImageTower

RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # the published rate, and larger rates for smaller towers
PUBLISHED_IMAGES = 10_000  # smallest training part for which the published recipe is used unchanged
FEWEST_STEPS, SMALL_BATCH = 500, 32  # of a training on fewer images


def score_fine_tuning(subject: FeatureExtractor, task: Task) -> list[Score]:
    """Search the learning rate, fine-tune the subject's tower on training and validation part, and test it."""
    assert subject.tower is not None, f"{subject.name} has no tower"
    tower, device = subject.tower, subject.device
    head = init_head(tower.width, len(task.classes), seed=0)

    def accuracy(recipe: FineTuning) -> float:
        model = fine_tune(tower, head, task.train, recipe, device)
        return float(_correct(model, task.validation, device).double().mean())

    images = len(task.train.labels)
    recipe, best = search_rate(recipe_for(FineTuning(), images), candidate_rates(tower, images, FineTuning()), accuracy)
    labels = np.concatenate([task.train.labels, task.validation.labels])
    joint = TaskSplit(ConcatenatedImages(task.train.images, task.validation.images), labels)
    model = fine_tune(tower, head, joint, recipe, device)
    right = _correct(model, task.test, device)
    return [
        make_score(task, "fine-tune", recipe.learning_rate, best, right, converged=True, num_train=len(joint.labels))
    ]


def recipe_for(published: FineTuning, images: int) -> FineTuning:
    """Return the recipe for this number of training images.

    Under 10,000 images, ten epochs would be few steps; the recipe then has batches of 32 and at least 500 steps, which
    is the length of the published warm-up.
    """
    if images >= PUBLISHED_IMAGES:
        return published
    batch = min(SMALL_BATCH, images)
    return replace(published, batch_size=batch, epochs=max(published.epochs, -(-FEWEST_STEPS * batch // images)))


def candidate_rates(tower: ImageTower, images: int, published: FineTuning) -> tuple[float, ...]:
    """Return the rates to search; only the published rate for towers as wide as ViT-B and large training parts."""
    if tower.width >= PUBLISHED_WIDTH and images >= PUBLISHED_IMAGES:
        return (published.learning_rate,)
    return tuple(sorted({published.learning_rate, *RATES}))


def search_rate(
    recipe: FineTuning, rates: Sequence[float], quality: Callable[[FineTuning], float]
) -> tuple[FineTuning, float]:
    """Return the recipe at the rate of the highest quality, and this quality; of equal ones the lowest rate.

    The ratio of final to initial rate is kept. FloatingPointError if training diverges at all rates.
    """
    share = recipe.min_learning_rate / recipe.learning_rate
    recipes = {rate: replace(recipe, learning_rate=rate, min_learning_rate=rate * share) for rate in rates}
    rate, best = find_best_rate(rates, lambda rate: quality(recipes[rate]))
    return recipes[rate], best


@dataclass(frozen=True, slots=True, eq=False)
class ConcatenatedImages:
    """The concatenated images of two parts."""

    first: ImageSource
    second: ImageSource

    @property
    def resize_over_crop(self) -> float:
        return self.first.resize_over_crop

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def rgb(self, row: int) -> UInt8[Tensor, "3 height width"]:
        return self.first.rgb(row) if row < len(self.first) else self.second.rgb(row - len(self.first))


def _correct(model: FineTunedClassifier, part: TaskSplit, device: torch.device) -> Bool[Tensor, " images"]:
    return compute_logits(model, part.images, device).argmax(dim=1) == torch.from_numpy(part.labels)
