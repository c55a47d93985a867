"""Labelled tasks of the pack, without any image of pre-training but the gallery of the retrieval.

Pre-training has no image of the vendor Twemoji, and none of the packages of rooms (Sweet Home 3D renders) and
silhouettes. Concepts occur on both sides by design; images, vendors and packages do not. The queries of the retrieval
are Twemoji's, and its gallery is of a vendor of pre-training.
"""

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int

from bench.data.pack import PackImages as Pack
from bench.data.pack import load_pack_images
from bench.interfaces.catalog import RETRIEVAL_TASK
from bench.transfer.families.pack_tasks import SILHOUETTES
from bench.transfer.tasks.image_sources import ConcatenatedImages, ImageSource, on_white

VALIDATION_SHARE = 0.25  # of the training part
MIN_MEMBERS = 20  # images of a class that a task keeps
MOST_SHOTS = 100
SHOTS = dict(zip(SILHOUETTES, (20, MOST_SHOTS), strict=True))
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Images and their class numbers."""

    images: ImageSource
    labels: Int[np.ndarray, " images"]

    def concatenate(self, other: "LabelledImages") -> "LabelledImages":
        return LabelledImages(
            ConcatenatedImages(self.images, other.images),
            np.concatenate([self.labels, other.labels]),
        )


@dataclass(frozen=True, slots=True)
class TaskWithSplits(Generic[Part]):
    """A data set with a fixed split: settings are tuned on `validation`, `test` is only reported."""

    name: str
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    # Remarks on the files and the split, for the user.
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    # File of prompt templates beside the data; its classes are words.
    templates: str = field(default="", kw_only=True)


@dataclass(frozen=True, slots=True)
class SingleLabelTask(TaskWithSplits[LabelledImages]):
    """A task with one class per image."""


@functools.cache
def pack_task(name: str, cache: Path) -> SingleLabelTask:
    """Return a task of the pack, split once per process; ValueError for a name of no such task."""
    if name == RETRIEVAL_TASK:
        return _retrieval(load_pack_images("twemoji", cache), load_pack_images("pretrain", cache))
    if name == "rooms":
        rooms = load_pack_images("sweethome3d", cache)
        furniture = [
            row
            for row, classes in enumerate(rooms.classes)
            if classes["category"] != "Miscellaneous"
        ]
        return _split_in_halves(
            name, rooms, _keep_frequent(rooms, furniture, "category"), "category"
        )
    if name in SILHOUETTES:
        task = _few_shot(name, load_pack_images("silhouettes", cache), SHOTS[name])
        return (
            task
            if name == SILHOUETTES[0]
            else replace(task, test=pack_task(SILHOUETTES[0], cache).test)
        )
    twemoji = load_pack_images("twemoji", cache)
    if name == "Twemoji group":
        return _split_in_halves(name, twemoji, range(len(twemoji)), "group")
    if name == "Twemoji subgroup":
        things = [
            row for row, classes in enumerate(twemoji.classes) if classes["group"] != "people-body"
        ]
        return _split_in_halves(
            name, twemoji, _keep_frequent(twemoji, things, "subgroup"), "subgroup"
        )
    raise ValueError(f"the pack has no task {name!r}")


def _split_in_halves(name: str, images: Pack, rows: Sequence[int], key: str) -> SingleLabelTask:
    """Split in halves, class by class; images that share a caption or their pixels stay together."""
    train = list[int]()
    test = list[int]()
    groups = group_duplicates(images, rows)
    assigned = set[int]()
    for members in _group_by_class(images, rows, key).values():
        for group in _sort_by_key_hash(images, {groups[row] for row in members} - assigned, name):
            shorter = train if len(train) <= len(test) else test
            shorter += [row for row in rows if groups[row] == group]
            assigned.add(group)
    return split_task(name, images, train, test, key, groups)


def _retrieval(twemoji: Pack, pretrain: Pack) -> SingleLabelTask:
    """Find the emoji of another vendor with a query's code points; a quarter of the queries is for validation."""
    queries = unique_emoji(twemoji, "twemoji-")
    gallery = unique_emoji(pretrain, "noto-")
    answers = {queries[emoji]: index for index, emoji in enumerate(gallery) if emoji in queries}
    order = _sort_by_key_hash(twemoji, answers, RETRIEVAL_TASK)
    split = round(len(order) * VALIDATION_SHARE)

    def make_part(rows: list[int]) -> LabelledImages:
        return LabelledImages(
            on_white(twemoji.pixels[rows]), np.array([answers[row] for row in rows])
        )

    shown = LabelledImages(on_white(pretrain.pixels[[*gallery.values()]]), np.arange(len(gallery)))
    validation = make_part(sorted(order[:split]))
    test = make_part(sorted(order[split:]))
    return SingleLabelTask(RETRIEVAL_TASK, tuple(gallery), shown, validation, test)


def unique_emoji(images: Pack, vendor: str) -> dict[str, int]:
    """Return the rows of a vendor's emoji by their code points, which end a key, each once.

    Emoji with equal pixels or equal captions are left out.
    """
    rows = [row for row, key in enumerate(images.keys) if key.startswith(vendor)]
    groups = group_duplicates(images, rows)
    sizes = Counter(groups.values())
    return {
        images.keys[row].removeprefix(vendor): row
        for row, group in groups.items()
        if sizes[group] == 1
    }


def _few_shot(name: str, images: Pack, per_class: int) -> SingleLabelTask:
    """Train on `per_class` images of each class; the test part is all but the first 100 images of each class."""
    order = _sort_by_key_hash(images, range(len(images)), "category")
    members = _group_by_class(images, order, "category").values()
    train = [row for rows in members for row in rows[:per_class]]
    test = [row for rows in members for row in rows[MOST_SHOTS:]]
    return split_task(name, images, train, test, "category", groups={row: row for row in order})


def split_task(
    name: str, images: Pack, train: list[int], test: list[int], key: str, groups: Mapping[int, int]
) -> SingleLabelTask:
    """Build a task from rows of training and test images; a quarter of each class is set aside for validation.

    Rows of one group stay together. `key` names the field of the images' classes that the task asks for.
    """
    classes = tuple(sorted({images.classes[row][key] for row in train}))
    number = {name: index for index, name in enumerate(classes)}

    def make_part(rows: list[int]) -> LabelledImages:
        labels = np.array([number[images.classes[row][key]] for row in rows])
        return LabelledImages(on_white(images.pixels[rows]), labels)

    validation = set[int]()
    for members in _group_by_class(images, train, key).values():
        wanted = max(1, round(len(members) * VALIDATION_SHARE))
        for group in _sort_by_key_hash(
            images, {groups[row] for row in members}, f"validation/{name}"
        ):
            if sum(row in validation for row in members) < wanted:
                validation |= {row for row in train if groups[row] == group}
    train_part = make_part(sorted({*train} - validation))
    return SingleLabelTask(
        name, classes, train_part, make_part(sorted(validation)), make_part(sorted(test))
    )


def group_duplicates(images: Pack, rows: Iterable[int]) -> dict[int, int]:
    """Return for each row the first row that is linked to it by equal captions or equal pixels.

    Twemoji draws all families of one size alike; rooms hold one chair under several names.
    """
    first: dict[int, int] = {}
    seen: dict[object, int] = {}
    for row in rows:
        contents = (images.captions[row], images.pixels[row].numpy().tobytes())
        linked = {seen[content] for content in contents if content in seen}
        group = min(linked, default=row)
        first[row] = group
        if len(linked) > 1:  # this row joins several groups
            first = {
                other: group if row_of_group in linked else row_of_group
                for other, row_of_group in first.items()
            }
            seen = {
                content: group if row_of_group in linked else row_of_group
                for content, row_of_group in seen.items()
            }
        seen |= dict.fromkeys(contents, group)
    return first


def _keep_frequent(images: Pack, rows: Iterable[int], key: str) -> list[int]:
    members = _group_by_class(images, rows, key).values()
    return sorted(
        row
        for rows_of_class in members
        if len(rows_of_class) >= MIN_MEMBERS
        for row in rows_of_class
    )


def _group_by_class(images: Pack, rows: Iterable[int], key: str) -> Mapping[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        members[images.classes[row][key]].append(row)
    return members


def _sort_by_key_hash(images: Pack, rows: Iterable[int], salt: str) -> list[int]:
    """Sort rows by a hash of their keys, so that a split depends on nothing else."""
    return sorted(
        rows, key=lambda row: hashlib.sha256(f"{salt}/{images.keys[row]}".encode()).digest()
    )
