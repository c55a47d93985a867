"""Tasks on the emoji of the pack: which group or subgroup of Unicode an emoji belongs to."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from scipy.cluster.hierarchy import DisjointSet
from torch import Tensor

from bench.data.pack import PackImages, load_pack_images
from bench.tables.groups import group_by
from bench.transfer.tasks.image_sources import ArrayImageSource, composite_on_white
from bench.transfer.tasks.tasks import VALIDATION_SHARE, LabelledImages, SingleLabelTask

MIN_MEMBERS = 20  # images of a subgroup that its task keeps
PEOPLE = "people-body"  # a group whose subgroups are poses and skin tones


def load_emoji_task(name: str, cache: Path) -> SingleLabelTask:
    """Load the task "Twemoji group" or "Twemoji subgroup" of the pack, split in halves class by class."""
    images = load_pack_images("twemoji", cache)
    key = name.removeprefix("Twemoji ")
    rows = list(range(len(images)))
    names = [label[key] for label in images.classes]
    if key == "subgroup":
        rows = [row for row in rows if images.classes[row]["group"] != PEOPLE]
        sizes = Counter(names[row] for row in rows)
        rows = [row for row in rows if sizes[names[row]] >= MIN_MEMBERS]
    train = list[int]()
    test = list[int]()
    groups = map_rows_to_first_duplicate(images, rows)
    assigned = set[int]()
    for members in group_by(rows, lambda row: names[row]).values():
        new_groups = {groups[row] for row in members} - assigned
        for group in _sort_by_key_hash(images, new_groups, name):
            shorter = train if len(train) <= len(test) else test
            shorter += [row for row in rows if groups[row] == group]
        assigned |= new_groups
    shown = composite_on_white(images.pixels).pixels
    return make_task_from_rows(name, images, shown, train, test, key, groups)


def make_task_from_rows(
    name: str,
    images: PackImages,
    shown_images: UInt8[Tensor, "images 3 height width"],
    train_and_validation_rows: Sequence[int],
    test_rows: Sequence[int],
    class_field: str,
    duplicate_group_of_row: Mapping[int, int],
) -> SingleLabelTask:
    """Build a task from rows; a quarter of each class of `train_and_validation_rows` becomes the validation part.

    Rows of one group stay together. `shown_images` are the images as the task shows them. The classes of the task are
    the values of the field `class_field` of the images' classes.
    """
    names = [label[class_field] for label in images.classes]
    classes = sorted({names[row] for row in train_and_validation_rows})

    def make_part(rows: Iterable[int]) -> LabelledImages:
        sorted_rows = sorted(rows)
        labels = [classes.index(names[row]) for row in sorted_rows]
        return LabelledImages(ArrayImageSource(shown_images[sorted_rows]), np.array(labels))

    validation = set[int]()
    for members in group_by(train_and_validation_rows, lambda row: names[row]).values():
        wanted = max(1, round(len(members) * VALIDATION_SHARE))
        groups_of_class = {duplicate_group_of_row[row] for row in members}
        for group in _sort_by_key_hash(images, groups_of_class, f"validation/{name}"):
            if len(validation.intersection(members)) < wanted:
                validation.update(
                    row for row in train_and_validation_rows if duplicate_group_of_row[row] == group
                )
    return SingleLabelTask(
        name=name,
        classes=tuple(classes),
        train=make_part(set(train_and_validation_rows) - validation),
        validation=make_part(validation),
        test=make_part(test_rows),
    )


def map_rows_to_first_duplicate(images: PackImages, rows: Sequence[int]) -> dict[int, int]:
    """Return for each row the lowest row that equal captions or equal pixels link to it, directly or by other rows.

    Twemoji draws all families of one size alike.
    """
    groups = DisjointSet(rows)
    first_rows = dict[object, int]()  # by caption and by pixels
    for row in rows:
        pixels = images.pixels[row].numpy().tobytes()
        for content in (images.captions[row], pixels):
            groups.merge(row, first_rows.setdefault(content, row))
    return {row: min(groups.subset(row)) for row in rows}


def _sort_by_key_hash(images: PackImages, rows: Iterable[int], salt: str) -> list[int]:
    """Sort rows by a hash of their keys, so that a split depends on nothing else."""

    def hash_key(row: int) -> bytes:
        return hashlib.sha256(f"{salt}/{images.keys[row]}".encode()).digest()

    return sorted(rows, key=hash_key)
