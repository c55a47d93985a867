"""The examples of dense tasks, and the settings of trainings on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch.utils.data import ConcatDataset

from bench.data.order import shuffled_rows
from bench.environment.seeds import AUGMENTATION, derive_seed
from bench.transfer.transfer_training import (
    PUBLISHED_WIDTH,
    TrainingRecipe,
    find_best_learning_rate,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Examples(Protocol[T_co]):
    """The examples of a part of a task, by their row: a map-style dataset."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> T_co: ...


def concatenate_datasets(first: Examples[T], second: Examples[T]) -> Examples[T]:
    """Return the examples of the first data set, and then of the second."""
    return cast("Examples[T]", ConcatDataset(cast("Any", [first, second])))


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseTrainingRecipe(TrainingRecipe):
    """A recipe with the learning rates to choose from, in micro-batches."""

    micro_batch_size: int  # images per micro-batch
    learning_rates: tuple[float, ...]  # see `find_best_learning_rate`

    def choose_learning_rate(self, width: int, quality: Callable[[float], float]) -> float:
        """Return the learning rate with the highest quality, which trains and scores at the given rate.

        For a tower as wide as ViT-B it is the first, without a search.
        """
        if len(self.learning_rates) == 1 or width >= PUBLISHED_WIDTH:
            return self.learning_rates[0]
        return find_best_learning_rate(self.learning_rates, quality)[0]

    def draw_batch_rows(
        self, num_examples: int, batch_number: int
    ) -> tuple[list[int], torch.Generator]:
        """Return the rows of a batch, in an order of the seed, and the generator of its augmentation."""
        first = batch_number * self.batch_size
        rows = shuffled_rows(self.seed, num_examples, start=first, size=self.batch_size)
        generator = torch.Generator().manual_seed(
            derive_seed(self.seed, AUGMENTATION, batch_number)
        )
        return rows.tolist(), generator
