"""From labelled pictures on disk to a task: split where they are not, checked, unreadable files left out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bench.transfer.tasks.pictures import FilePictures, Pictures, SomePictures
from bench.transfer.tasks.tasks import VALIDATION_SHARE, Part, Task
from bench.transfer.tasks.unreadable import told, unreadable

TEST_SHARE = 0.2
NAMED = 5  # classes that an error names
Labels = Int[np.ndarray, " pictures"]


@dataclass(frozen=True, slots=True)
class Found:
    """A part as it lies on disk, and what its place is called."""

    place: str
    pictures: Pictures
    labels: Labels


def task_of(
    name: str, classes: Sequence[str], train: Found, validation: Found | None, test: Found | None, cache: Path
) -> Task:
    """Make a task of the parts that there are; what is missing is carved from `train`, class by class.

    Raises ValueError for one class, a class that a part lacks, a class too small to be split, and files of which too
    many are unreadable.
    """
    if len(classes) == 1:
        raise ValueError(f"{name}: all images are of one class, {classes[0]!r}: there is nothing to tell apart")
    notes, found = list[str](), dict[str, Found]()
    for what, given in (("train", train), ("validation", validation), ("test", test)):
        if given is not None:
            found[what], note = _readable(given, cache)
            notes += note
    for what, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if what not in found:
            found["train"], found[what], note = _carved(name, classes, found["train"], what, share)
            notes += note
    for part in found.values():
        _require_every_class(name, classes, part)
    parts = {what: Part(part.pictures, part.labels) for what, part in found.items()}
    return Task(name, tuple(classes), parts["train"], parts["validation"], parts["test"], tuple(notes))


def _readable(found: Found, cache: Path) -> tuple[Found, list[str]]:
    if not isinstance(found.pictures, FilePictures):
        return found, []
    broken = unreadable(found.pictures.paths, cache, found.place)
    if not broken:
        return found, []
    rows = [row for row in range(len(found.labels)) if row not in broken]
    return _some(found, found.place, rows), [f"{told(broken, len(found.labels), found.place)}; they are left out"]


def _carved(name: str, classes: Sequence[str], found: Found, what: str, share: float) -> tuple[Found, Found, list[str]]:
    """Set aside about a share of each class, one image at least; which is drawn by a hash of its place in the list.

    Return the rest, what is set aside, and what to tell.
    """
    counts = np.bincount(found.labels, minlength=len(classes))
    if small := [one for one, count in zip(classes, counts, strict=True) if count < 2]:  # noqa: PLR2004
        raise ValueError(
            f"{name}: {found.place} has {len(found.labels):,} images of {len(classes):,} classes, and fewer than two "
            f"of {named(small)}: too few to set some aside for {what}"
        )
    carved = list[int]()
    for label in range(len(classes)):
        rows = sorted(np.flatnonzero(found.labels == label).tolist(), key=_by_hash)
        carved += rows[: max(1, round(len(rows) * share))]
    rest = sorted({*range(len(found.labels))} - {*carved})
    note = (
        f"{name}: no {what} part is there; {len(carved):,} of {len(found.labels):,} images of {found.place} are set "
        f"aside for it, {share:.0%} of each class"
    )
    aside = _some(found, f"what is set aside of {found.place}", sorted(carved))
    return _some(found, found.place, rest), aside, [note]


def _some(found: Found, place: str, rows: Sequence[int]) -> Found:
    return Found(place, SomePictures(found.pictures, rows), found.labels[np.asarray(rows, dtype=int)])


def _require_every_class(name: str, classes: Sequence[str], part: Found) -> None:
    absent = sorted({*range(len(classes))} - {*part.labels.tolist()})
    if absent:
        told = named([classes[label] for label in absent])
        raise ValueError(
            f"{name}: {part.place} has {len(part.labels):,} readable images of {len(classes):,} classes, and none of "
            f"{told}; every part needs every class"
        )


def named(classes: Sequence[str]) -> str:
    """Name the first of some classes."""
    more = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    return f"class{'es' if len(classes) > 1 else ''} {', '.join(map(repr, classes[:NAMED]))}{more}"


def _by_hash(row: int) -> bytes:
    return hashlib.sha256(str(row).encode()).digest()
