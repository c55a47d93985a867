"""What is scored: a tower, or features that were never trained."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from bench.config import Experiment
from bench.towers.tower_from import KnownTower
from bench.transfer.tasks.pictures import Pictures
from models.image_tower import ImageTower

Embed = Callable[[Pictures], Float[np.ndarray, "pictures features"]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Subject:
    """What protocols ask, and what a record says of it."""

    name: str  # as records have it
    embed: Embed  # keeps what it has embedded (`kept`): protocols and tasks may ask for the same pictures
    tower: ImageTower | None  # None: features that were never trained
    device: torch.device
    experiment: Experiment | None  # that made the tower
    known: KnownTower | None = None  # what the tower was trained with
    images: int = 0  # seen in pre-training
    budgets: tuple[str, ...] = ()  # that the tower was cooled down for


def kept(embed: Embed) -> Embed:
    """Return what embeds the same pictures once."""
    done: dict[Pictures, np.ndarray] = {}

    def once(pictures: Pictures) -> np.ndarray:
        if pictures not in done:
            done[pictures] = embed(pictures)
        return done[pictures]

    return once
