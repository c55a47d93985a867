"""Fine-tune a tower and a new head on a task by the published recipe, and score the result.

The learning rate is chosen on the validation part, the test part is used once.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from bench.data.transforms import WHITE, crop_and_resize, draw_crop_numbers, normalise
from bench.environment.seeds import HEAD, derive_seed
from bench.records.scores import AccuracyScore, TaskTrainingSettings
from bench.transfer.classification.probe import make_test_score
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.image_sources import ImageSource, iterate_eval_batches
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask, TaskWithSplits
from bench.transfer.transfer_training import (
    PUBLISHED_WIDTH,
    TaskTrainingRecipe,
    find_best_learning_rate,
    prefetch,
    train_on_task,
)
from models.heads import ImageClassifier
from models.image_tower import ImageTower
from models.patch_map import copy_resized_tower

INITIAL_SPREAD = 0.02  # standard deviation of a new head's weights

# The mean loss of logits against labels, which are on the CPU.
LossFunction = Callable[[Float[Tensor, "batch classes"], Tensor], Float[Tensor, ""]]
# The published rate, and larger rates for smaller towers.
LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
# Smallest training part for which the published epochs are used unchanged.
PUBLISHED_IMAGES = 10_000
FEWEST_STEPS = 500  # of a training on fewer images
SMALL_BATCH = 32  # images per step of a training on fewer images
# Largest batch of a training of ten epochs that is too short for the released batch.
PAPER_BATCH = 128
MICRO_BATCH_PIXELS = 128 * 224**2  # most pixels of the images that pass through a tower at once


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuningRecipe(TaskTrainingRecipe):
    """Settings of fine-tuning; the defaults are CatLIP's on ImageNet-1k, as released.

    AdamW with a linear warm-up and a cosine; random resized crops and flips. RangeAugment and the sampler of several
    image sizes are left out; the recipe has no RandAugment, mixup or cutmix. Source: apple/corenet 1aa3acd,
    `projects/catlip/image_classification/imagenet/vit_{base,large,huge}.yaml`.
    """

    epochs: int = 10
    batch_size: int = 512
    warmup_steps: int | None = 500
    learning_rate: float = 3e-5
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    clip_norm: float | None = 1.0
    ema_decay: float | None = 0.9995
    # Range of a random crop's area, as a share of the image's area.
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    image_size: int | None = None  # in pixels, that the tower is resized to; None: the tower's own
    # Preprocessing of images to score (see `ImageSource`); None: as the task's images have it.
    resize_over_crop: float | None = None


# CatLIP's recipe: arXiv:2404.15653, table 6. CoreNet has no file of it; settings that are not in the table are as in
# fine-tuning.
LINEAR_PROBE = FineTuningRecipe(
    epochs=30,
    batch_size=256,
    learning_rate=3e-5,
    final_learning_rate_ratio=1e-6 / 3e-5,
    weight_decay=0.0,
    train_tower=False,
)
RELEASED = FineTuningRecipe()


class FineTuningResult(NamedTuple):
    """The logits of a classifier that was trained at the best learning rate, and how it was trained."""

    test_logits: Float[Tensor, "images classes"]
    validation_quality: float  # at the best rate, of a training on the training part alone
    num_train: int  # images of the training and the validation part
    training: TaskTrainingSettings


def make_random_head(width: int, num_classes: int, seed: int) -> nn.Linear:
    """Return a linear head with random weights from a new generator of `seed`."""
    head = nn.Linear(width, num_classes, device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(derive_seed(seed, HEAD))
    nn.init.trunc_normal_(head.weight, std=INITIAL_SPREAD, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def compute_cross_entropy(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], label_smoothing: float
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy in nats."""
    return F.cross_entropy(logits, labels.to(logits.device), label_smoothing=label_smoothing)


def train_classifier_copy(
    tower: ImageTower,
    head: nn.Linear,
    part: LabelledImages,
    compute_loss: LossFunction,
    recipe: FineTuningRecipe,
    device: torch.device,
) -> ImageClassifier:
    """Return copies of a tower and a head, trained on a part of a task.

    The originals are unchanged. Equal arguments give equal weights on a CPU, bit for bit. Micro-batches have at most
    MICRO_BATCH_PIXELS, so that large images fit into a device's memory. Raises FloatingPointError for a loss or a
    gradient that is not finite.
    """
    images = part.images
    labels = torch.from_numpy(part.labels)
    size = recipe.image_size
    tower = copy.deepcopy(tower) if size is None else copy_resized_tower(tower, size)
    model = ImageClassifier(tower, copy.deepcopy(head)).to(device)
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(images)))
    steps = recipe.count_steps(len(images))
    images_at_once = max(1, MICRO_BATCH_PIXELS // tower.image_size**2)
    micro_batch_size = min(recipe.batch_size, images_at_once)
    while recipe.batch_size % micro_batch_size:  # micro-batches are equally large
        micro_batch_size -= 1

    def load_micro_batches(batch_number: int) -> list[tuple[Tensor, Tensor]]:
        crops, rows = load_augmented_crops_and_rows(images, tower.image_size, recipe, batch_number)
        micro_batches = torch.split(crops, micro_batch_size)
        labels_of_micro_batches = torch.split(labels[rows], micro_batch_size)
        return list(zip(micro_batches, labels_of_micro_batches, strict=True))

    def compute_batch_loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        crops, labels_of_crops = batch
        pixels = normalise(crops.to(device) / WHITE)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return compute_loss(model(pixels), labels_of_crops)

    batches = prefetch(load_micro_batches, steps)
    return train_on_task(
        model, tower, batches, steps, compute_batch_loss, recipe, recipe.learning_rate
    )


def load_augmented_crops_and_rows(
    images: ImageSource, side: int, recipe: FineTuningRecipe, batch_number: int
) -> tuple[UInt8[Tensor, "batch 3 side side"], Int[Tensor, " batch"]]:
    """Return a batch of shuffled, randomly cropped and flipped images of `side` pixels, and their rows.

    The batch is a pure function of the arguments.
    """
    rows, generator = recipe.draw_batch_rows(len(images), batch_number)
    draws = draw_crop_numbers(len(rows), generator)
    crops = []
    for row, draw in zip(rows.tolist(), draws, strict=True):
        image = images.rgb(row)
        crops.append(crop_and_resize(image, draw, recipe.crop_scale, side, flip=recipe.flip))
    return torch.stack(crops), rows


@torch.inference_mode()
def compute_logits(
    model: ImageClassifier,
    images: ImageSource,
    device: torch.device,
    resize_over_crop: float | None = None,
) -> Float[Tensor, "images classes"]:
    """Return the logits of images, preprocessed for scoring, on the CPU."""
    batches = iterate_eval_batches(
        images, model.tower.image_size, resize_over_crop or images.resize_over_crop
    )
    logits = []
    for batch in batches:
        pixels = normalise(batch.to(device) / WHITE)
        logits.append(model(pixels).cpu())
    return torch.cat(logits)


def fine_tune_at_best_rate_and_classify_test(
    extractor: FeatureExtractor,
    task: TaskWithSplits[LabelledImages],
    published: FineTuningRecipe,
    compute_loss: LossFunction,
    measure_quality: Callable[[Tensor, LabelledImages], float],
) -> FineTuningResult:
    """Choose the learning rate on the validation part, train on both parts, and classify the test part.

    `measure_quality` compares logits with a part's labels; the rate of the highest quality is chosen. A recipe that
    does not train the tower trains the head alone.
    """
    assert extractor.tower is not None, f"{extractor.name} has no tower"
    tower = extractor.tower
    device = extractor.device
    head = make_random_head(tower.width, len(task.classes), seed=0)
    num_images = len(task.train.labels)
    recipe = adapt_recipe_to_num_images(published, num_images)

    def train(part: LabelledImages, rate: float) -> ImageClassifier:
        recipe_at_rate = replace(recipe, learning_rate=rate)
        return train_classifier_copy(tower, head, part, compute_loss, recipe_at_rate, device)

    def classify(model: ImageClassifier, part: LabelledImages) -> Tensor:
        return compute_logits(model, part.images, device, published.resize_over_crop)

    def measure_rate(rate: float) -> float:
        model = train(task.train, rate)
        return measure_quality(classify(model, task.validation), task.validation)

    rates = list_candidate_learning_rates(tower, num_images, published)
    rate, quality = find_best_learning_rate(rates, measure_rate)
    joint = task.train.concatenate(task.validation)
    num_train = len(joint.labels)
    model = train(joint, rate)
    training = recipe.make_task_training_record(num_train, model.tower.image_size, rate)
    return FineTuningResult(classify(model, task.test), quality, num_train, training)


def _is_correct(
    logits: Float[Tensor, "images classes"], part: LabelledImages
) -> Bool[Tensor, " images"]:
    return logits.argmax(dim=1) == torch.from_numpy(part.labels)


def _measure_accuracy(logits: Float[Tensor, "images classes"], part: LabelledImages) -> float:
    return float(_is_correct(logits, part).double().mean())


def score_fine_tuning(
    extractor: FeatureExtractor,
    task: SingleLabelTask,
    protocol: str = "fine-tune",
    published: FineTuningRecipe = RELEASED,
) -> list[AccuracyScore]:
    """Return the accuracy of the fine-tuned tower on the test part (see `fine_tune_at_best_rate_and_classify_test`)."""
    compute_loss = partial(compute_cross_entropy, label_smoothing=published.label_smoothing)
    result = fine_tune_at_best_rate_and_classify_test(
        extractor, task, published, compute_loss, _measure_accuracy
    )
    score = make_test_score(
        task,
        protocol,
        chosen=result.training.learning_rate,
        validation_accuracy=result.validation_quality,
        correct=_is_correct(result.test_logits, task.test),
        converged=True,
        num_train=result.num_train,
        training=result.training,
    )
    return [score]


score_linear_probe_catlip = partial(
    score_fine_tuning, protocol="linear probe, CatLIP's recipe", published=LINEAR_PROBE
)


def adapt_recipe_to_num_images(published: FineTuningRecipe, num_images: int) -> FineTuningRecipe:
    """Return a published recipe, adapted to this number of training images.

    Where the released batch would make less than ten times the steps of the released warm-up, batches have at most
    128 images, the paper's number. Under 10,000 images, the recipe has batches of 32 and at least 500 steps.
    """
    if num_images >= PUBLISHED_IMAGES:
        if (
            published.count_warmup_steps(published.count_steps(num_images))
            == published.warmup_steps
        ):
            return published
        return replace(published, batch_size=min(PAPER_BATCH, published.batch_size))
    batch = min(SMALL_BATCH, num_images)
    epochs = math.ceil(FEWEST_STEPS * batch / num_images)
    return replace(published, batch_size=batch, epochs=max(published.epochs, epochs))


def list_candidate_learning_rates(
    tower: ImageTower, num_images: int, published: FineTuningRecipe
) -> tuple[float, ...]:
    """Return the learning rates to try: only the published one for towers as wide as ViT-B and large training parts."""
    if tower.width >= PUBLISHED_WIDTH and num_images >= PUBLISHED_IMAGES:
        return (published.learning_rate,)
    return tuple(sorted({published.learning_rate, *LEARNING_RATES}))
