"""The examples of dense tasks, and the settings of trainings on them."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from bench.environment.seeds import HEAD, derive_seed
from bench.records.scores import TaskTrainingSettings
from bench.transfer.tasks.tasks import TaskWithSplits
from bench.transfer.transfer_training import (
    PUBLISHED_WIDTH,
    TaskTrainingRecipe,
    find_best_learning_rate,
    prefetch,
    train_on_task,
)
from models.image_tower import ImageTower

T = TypeVar("T")
Model = TypeVar("Model", bound=nn.Module)
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class ExampleDataset(Protocol[T_co]):
    """The examples of a part of a task, by their row: a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> T_co: ...


class ModelTrainedAtBestRate(NamedTuple):
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
        train: Callable[[ExampleDataset[T], float], Model],
        measure_quality: Callable[[Model, ExampleDataset[T]], float],
    ) -> ModelTrainedAtBestRate:
        """Choose the learning rate on the validation part, and train on training and validation part.

        `train` returns a model trained on examples at a rate. Towers as wide as ViT-B take the first rate.
        """

        def measure_rate(rate: float) -> float:
            return measure_quality(train(task.train, rate), task.validation)

        rate = self.learning_rates[0]
        if len(self.learning_rates) > 1 and tower.width < PUBLISHED_WIDTH:
            rate, _ = find_best_learning_rate(self.learning_rates, measure_rate)
        joint = cast("ExampleDataset[T]", ConcatDataset(cast("Any", [task.train, task.validation])))
        training = self.make_task_training_record(len(joint), tower.image_size, rate)
        return ModelTrainedAtBestRate(train(joint, rate), len(joint), training)

    def train_copy(
        self,
        tower: ImageTower,
        build_model: Callable[[ImageTower], Model],
        num_examples: int,
        load_micro_batches: Callable[[int], Sequence[T]],
        compute_loss: Callable[[Model, T], Tensor],
        learning_rate: float,
    ) -> Model:
        """Train the model that `build_model` makes of a copy of a tower, with new heads; return it or its EMA.

        `load_micro_batches` takes the number of a batch.
        """
        device = next(tower.parameters()).device
        with torch.random.fork_rng([]):
            torch.manual_seed(derive_seed(self.seed, HEAD))
            trained_tower = copy.deepcopy(tower).cpu()
            model = build_model(trained_tower).to(device)
        steps = self.count_steps(num_examples)
        return train_on_task(
            model,
            trained_tower,
            prefetch(load_micro_batches, steps),
            steps,
            partial(compute_loss, model),
            self,
            learning_rate,
        )
