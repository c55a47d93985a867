"""Tasks whose pictures show several classes at once, or none."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from bench.transfer.tasks.pictures import FilePictures, Pictures
from bench.transfer.tasks.unreadable import told, unreadable

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


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """A part's files, and what is known of them."""

    paths: Sequence[Path]
    labels: Bool[np.ndarray, "files classes"]
    unjudged: Bool[np.ndarray, "files classes"]

    def some(self, rows: Sequence[int]) -> "Listed":
        """Take rows."""
        return Listed([self.paths[row] for row in rows], self.labels[rows], self.unjudged[rows])


def task_of_files(
    name: str,
    classes: tuple[str, ...],
    train: Listed,
    validation: Listed | None,
    test: Listed,
    notes: Sequence[str],
    cache: Path,
) -> MultiLabelTask:
    """Make a task; where no validation part is there, it is carved from `train`. Files that are broken are left out.

    ValueError where they are too many.
    """
    told_of = [*notes]
    if validation is None:
        kept, held = carved(name, [path.name for path in train.paths])
        told_of.append(f"{name}: {len(held):,} of {len(train.paths):,} images of train are set aside to choose on")
        train, validation = train.some(kept), train.some(held)

    def readable(part: Listed, what: str) -> MultiLabelPart:
        broken = unreadable(part.paths, cache, what)
        if broken:
            told_of.append(f"{told(broken, len(part.paths), what)}; they are left out")
        left = part.some([row for row in range(len(part.paths)) if row not in broken])
        return MultiLabelPart(FilePictures(left.paths), left.labels, left.unjudged)

    fitted, chosen_on, tested = (
        readable(part, f"{name} {what}")
        for part, what in ((train, "train"), (validation, "validation"), (test, "test"))
    )
    return MultiLabelTask(name, classes, fitted, chosen_on, tested, tuple(told_of))


def carved(what: str, names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Carve the rows of a validation part from those of a training part, by a hash of the pictures' names.

    ValueError where there are too few.
    """
    order = sorted(range(len(names)), key=lambda row: hashlib.sha256(names[row].encode()).digest())
    count = min(MOST_VALIDATION, round(len(names) * VALIDATION_SHARE))
    if not count:
        raise ValueError(
            f"{what}: of {len(names)} training pictures none can be set aside to choose on, 3 are the fewest"
        )
    return sorted(order[count:]), sorted(order[:count])


def some(names: Sequence[object]) -> str:
    """Tell a few of many names."""
    first = ", ".join(map(str, names[:NAMES_TOLD]))
    return first + (f" and {len(names) - NAMES_TOLD} more" if len(names) > NAMES_TOLD else "")
