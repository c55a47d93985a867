"""Build a task from labelled images on disk: split, check that every part has every class, drop unreadable files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bench.transfer.tasks.pictures import FileImageSource, ImageSource, ImageSubset, format_some
from bench.transfer.tasks.tasks import VALIDATION_SHARE, Task, TaskSplit
from bench.transfer.tasks.unreadable import readable_rows

TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class FoundPart:
    """A part as it lies on disk; `place` names it in messages."""

    place: str
    images: ImageSource
    labels: Int[np.ndarray, " images"]

    def some(self, rows: Sequence[int], place: str) -> "FoundPart":
        return FoundPart(place, ImageSubset(self.images, rows), self.labels[np.asarray(rows, dtype=int)])


def make_task(
    name: str,
    classes: Sequence[str],
    train: FoundPart,
    validation: FoundPart | None,
    test: FoundPart | None,
    cache: Path,
) -> Task:
    """Build a task; a missing test or validation part is held out from `train`, class by class.

    Raises ValueError for a single class, a part without some class, a class too small to split, or too many unreadable
    files.
    """
    if len(classes) == 1:
        raise ValueError(f"{name}: all images are of one class, {classes[0]!r}: there is nothing to tell apart")
    notes, found = list[str](), dict[str, FoundPart]()
    for what, given in (("train", train), ("validation", validation), ("test", test)):
        if given is None:
            continue
        if isinstance(given.images, FileImageSource):
            paths = given.images.paths
            rows, note = readable_rows(given.images.rgb, len(paths), paths, cache, given.place)
            given, notes = given.some(rows, given.place), notes + note  # noqa: PLW2901 - the same part, shorter
        found[what] = given
    for what, share in (("test", TEST_SHARE), ("validation", VALIDATION_SHARE)):
        if what not in found:
            whole = found["train"]
            found["train"], found[what] = _held_out(name, classes, whole, what, share)
            notes.append(
                f"{name}: no {what} part is there; {len(found[what].labels):,} of {len(whole.labels):,} images of "
                f"{whole.place} are set aside for it, {share:.0%} of each class"
            )
    for part in found.values():
        if absent := sorted({*range(len(classes))} - {*part.labels.tolist()}):
            raise ValueError(
                f"{name}: {part.place} has {len(part.labels):,} readable images of {len(classes):,} classes, and none "
                f"of {format_classes([classes[label] for label in absent])}; every part needs every class"
            )
    fitted, chosen_on, tested = (
        TaskSplit(found[what].images, found[what].labels) for what in ("train", "validation", "test")
    )
    return Task(name, tuple(classes), fitted, chosen_on, tested, tuple(notes))


def _held_out(
    name: str, classes: Sequence[str], found: FoundPart, what: str, share: float
) -> tuple[FoundPart, FoundPart]:
    """Return the remaining and the held-out part: a share of each class, at least one image, chosen by a hash."""
    counts = np.bincount(found.labels, minlength=len(classes))
    if small := [one for one, count in zip(classes, counts, strict=True) if count < 2]:  # noqa: PLR2004
        raise ValueError(
            f"{name}: {found.place} has {len(found.labels):,} images of {len(classes):,} classes, and fewer than two "
            f"of {format_classes(small)}: too few to set some aside for {what}"
        )
    chosen = list[int]()
    for label in range(len(classes)):
        rows = np.flatnonzero(found.labels == label).tolist()
        rows.sort(key=lambda row: hashlib.sha256(str(row).encode()).digest())
        chosen += rows[: max(1, round(len(rows) * share))]
    rest = sorted({*range(len(found.labels))} - {*chosen})
    return found.some(rest, found.place), found.some(sorted(chosen), f"what is set aside of {found.place}")


def format_classes(classes: Sequence[str]) -> str:
    """Name the first of some classes."""
    return f"class{'es' if len(classes) > 1 else ''} {format_some([*map(repr, classes)])}"
