"""Tasks whose pictures show several classes at once, or none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from bench.transfer.pictures import Pictures

VALIDATION_SHARE, MOST_VALIDATION = 0.25, 5000  # of the training part, pictures
NAMES_TOLD = 5  # of many


@dataclass(frozen=True, slots=True, eq=False)
class MultiLabelPart:
    """Pictures and the classes that they show."""

    pictures: Pictures
    labels: Bool[np.ndarray, "pictures classes"]
    unjudged: Bool[np.ndarray, "pictures classes"]  # neither shown nor not shown: left out of losses and figures

    def __post_init__(self) -> None:
        assert len(self.pictures) == len(self.labels) == len(self.unjudged)
        assert not (self.labels & self.unjudged).any()


@dataclass(frozen=True, slots=True)
class MultiLabelTask:
    """A labelled data set, split once and for all: what is tuned is tuned on `validation`, `test` is only reported."""

    name: str
    classes: tuple[str, ...]
    train: MultiLabelPart
    validation: MultiLabelPart
    test: MultiLabelPart
    notes: tuple[str, ...] = ()  # what a person should know of how it came about

    def __post_init__(self) -> None:
        """Refuse what cannot be learned or scored."""
        for part in ("train", "validation", "test"):
            if not getattr(self, part).labels.any():
                raise ValueError(f"{self.name}: no picture of the {part} part shows any class")


def carved(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Carve the rows of a validation part from those of a training part, by a hash of the pictures' names."""
    order = sorted(range(len(names)), key=lambda row: hashlib.sha256(names[row].encode()).digest())
    count = min(MOST_VALIDATION, round(len(names) * VALIDATION_SHARE))
    return sorted(order[count:]), sorted(order[:count])


def some(names: Sequence[object]) -> str:
    """Tell a few of many names."""
    told = ", ".join(map(str, names[:NAMES_TOLD]))
    return told + (f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else "")
