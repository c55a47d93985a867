"""The examples of dense tasks, and the settings of trainings on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch.utils.data import ConcatDataset

from bench.data.order import rows_of_shuffled_epochs
from bench.environment.seeds import AUGMENTATION, derive_seed
from bench.records.scores import TaskTrainingSettings
from bench.transfer.tasks.tasks import TaskWithSplits
from bench.transfer.transfer_training import (
    PUBLISHED_WIDTH,
    TaskTrainingRecipe,
    find_best_learning_rate,
)
from models.image_tower import ImageTower

T = TypeVar("T")
Model = TypeVar("Model")
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class ExampleDataset(Protocol[T_co]):
    """The examples of a part of a task, by their row: a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> T_co: ...


class DenseTrainingResult(NamedTuple):
    """A model that was trained at the best learning rate, and how it was trained."""

    model: Any
    num_train: int  # images of the training and the validation part
    training: TaskTrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseTrainingRecipe(TaskTrainingRecipe):
    """The settings of a training on masks or objects: a recipe with micro-batches and the learning rates to try."""

    micro_batch_size: int  # images per micro-batch
    learning_rates: tuple[float, ...]  # see `find_best_learning_rate`

    def train_at_best_rate(
        self,
        task: TaskWithSplits[ExampleDataset[T]],
        tower: ImageTower,
        image_size: int,
        train: Callable[[ExampleDataset[T], float], Model],
        measure_quality: Callable[[Model, ExampleDataset[T]], float],
    ) -> DenseTrainingResult:
        """Choose the learning rate on the validation part, and train on training and validation part.

        `train` returns a model trained on examples at a rate. Towers as wide as ViT-B take the first rate.
        """

        def measure_rate(rate: float) -> float:
            return measure_quality(train(task.train, rate), task.validation)

        rate = self.learning_rates[0]
        if len(self.learning_rates) > 1 and tower.width < PUBLISHED_WIDTH:
            rate, _ = find_best_learning_rate(self.learning_rates, measure_rate)
        joint = cast("ExampleDataset[T]", ConcatDataset(cast("Any", [task.train, task.validation])))
        training = self.make_task_training_record(len(joint), image_size, rate)
        return DenseTrainingResult(train(joint, rate), len(joint), training)

    def draw_batch_rows(
        self, num_examples: int, batch_number: int
    ) -> tuple[list[int], torch.Generator]:
        """Return the rows of a batch in an order of the seed, and the generator for the augmentation of the batch."""
        first = batch_number * self.batch_size
        rows = rows_of_shuffled_epochs(self.seed, num_examples, start=first, size=self.batch_size)
        generator = torch.Generator().manual_seed(
            derive_seed(self.seed, AUGMENTATION, batch_number)
        )
        return rows.tolist(), generator
