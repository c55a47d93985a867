"""The scores of a feature extractor on a task, as records hold them."""

from collections.abc import Iterable
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**18)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class TaskTrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a tower's or a head's training on a task."""

    image_size: Count  # side in pixels
    batch_size: Count
    steps: Count
    warmup_steps: Count
    learning_rate: float
    layer_decay: Share  # factor of the learning rate from each block to its previous
    is_averaged: bool  # the moving average of the weights was scored


class AccuracyScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The accuracy of one protocol on one task: which test images were right, and how the head was fitted."""

    task: str
    protocol: str  # "linear probe", "k-NN", ...
    # Setting that was chosen on the validation part: the inverse penalty C, k, or the learning rate; 1 of a retrieval.
    chosen: float
    validation_accuracy: Share
    converged: bool
    # "1" or "0" for each test image, in the task's order.
    correct: Annotated[str, msgspec.Meta(pattern="^[01]+$")]
    num_classes: Count
    # Number of images that the head was fitted on, with the validation part's except in few-shot curves; of a retrieval
    # the gallery's.
    num_train: Count
    majority: Share  # accuracy of always predicting the commonest class of the test part
    per_class: int | None = None  # of a few-shot curve: number of labelled images per class
    # Of a label-fraction curve: share of the training images that are labelled.
    label_share: Share | None = None
    draw: Count = 0  # number of the random draw of the labelled images
    # None: nothing but a head on frozen features was trained.
    training: TaskTrainingSettings | None = None


class MetricScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric other than accuracy, such as mIoU, by one protocol on one task's test part."""

    task: str
    protocol: str
    name: str  # "macro mAP", "mIoU", "box AP", ...
    value: float
    num_train: Count  # training and validation part together
    num_test: Count
    baseline: float | None  # the same figure for what knows nothing; None: not measured
    training: TaskTrainingSettings | None = None  # None: nothing but a head was trained


def format_task_trainings_note(scores: Iterable[AccuracyScore | MetricScore]) -> str:
    """Return a line break and a line with the image sizes, batches and steps of the scores' trainings, or nothing."""
    trainings = dict[str, None]()
    for score in scores:
        training = score.training
        if training is not None:
            batches = f"{training.image_size} px, batches of {training.batch_size}"
            steps = f"{training.steps:,} steps with {training.warmup_steps} of warm-up"
            trainings[f"{batches}, {steps}"] = None
    return f"\nTrained with {'; '.join(trainings)}." if trainings else ""
