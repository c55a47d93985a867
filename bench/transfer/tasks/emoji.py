"""Tasks on the emoji of the pack: which group or subgroup of Unicode an emoji belongs to."""

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from bench.data.pack import PackImages as Pack
from bench.data.pack import load_pack_images
from bench.transfer.tasks.image_sources import ArrayImageSource, on_white
from bench.transfer.tasks.tasks import VALIDATION_SHARE, LabelledImages, SingleLabelTask

MIN_MEMBERS = 20  # images of a subgroup that its task keeps
PEOPLE = "people-body"  # a group whose subgroups are poses and skin tones


@functools.cache
def emoji_task(name: str, cache: Path) -> SingleLabelTask:
    """Return "Twemoji group" or "Twemoji subgroup", split in halves class by class, once per process."""
    images = load_pack_images("twemoji", cache)
    key = name.removeprefix("Twemoji ")
    rows = list(range(len(images)))
    if key == "subgroup":
        rows = [row for row in rows if images.classes[row]["group"] != PEOPLE]
        members = _group_by_class(images, rows, key)
        rows = [row for row in rows if len(members[images.classes[row][key]]) >= MIN_MEMBERS]
    train = list[int]()
    test = list[int]()
    groups = group_duplicates(images, rows)
    assigned = set[int]()
    for members_of_class in _group_by_class(images, rows, key).values():
        new_groups = {groups[row] for row in members_of_class} - assigned
        for group in _sort_by_key_hash(images, new_groups, name):
            shorter = train if len(train) <= len(test) else test
            shorter += [row for row in rows if groups[row] == group]
        assigned |= new_groups
    return split_task(name, images, on_white(images.pixels).pixels, train, test, key, groups)


def split_task(
    name: str,
    images: Pack,
    shown: UInt8[Tensor, "images 3 height width"],
    train: Sequence[int],
    test: Sequence[int],
    key: str,
    groups: Mapping[int, int],
) -> SingleLabelTask:
    """Build a task from rows of training and test images; a quarter of each class is set aside for validation.

    Rows of one group stay together. `shown` are the images as the task shows them, and `key` names the field of their
    classes that it asks for.
    """
    classes = tuple(sorted({images.classes[row][key] for row in train}))

    def make_part(rows: Iterable[int]) -> LabelledImages:
        sorted_rows = sorted(rows)
        labels = [classes.index(images.classes[row][key]) for row in sorted_rows]
        return LabelledImages(ArrayImageSource(shown[sorted_rows]), np.array(labels))

    validation = set[int]()
    for members in _group_by_class(images, train, key).values():
        wanted = max(1, round(len(members) * VALIDATION_SHARE))
        groups_of_class = {groups[row] for row in members}
        for group in _sort_by_key_hash(images, groups_of_class, f"validation/{name}"):
            if len(validation.intersection(members)) < wanted:
                validation.update(row for row in train if groups[row] == group)
    train_part = make_part({*train} - validation)
    return SingleLabelTask(name, classes, train_part, make_part(validation), make_part(test))


def group_duplicates(images: Pack, rows: Sequence[int]) -> dict[int, int]:
    """Return for each row the first row that is linked to it by equal captions or equal pixels.

    Twemoji draws all families of one size alike.
    """
    contents = dict[object, int]()
    links = list[tuple[int, int]]()  # a position in `rows`, and the number of its content
    for position, row in enumerate(rows):
        for content in (images.captions[row], images.pixels[row].numpy().tobytes()):
            links.append((position, contents.setdefault(content, len(contents))))
    positions, numbers = np.array(links).T
    nodes = len(rows) + len(contents)
    graph = coo_array((np.ones(len(links)), (positions, numbers + len(rows))), shape=(nodes, nodes))
    _, components = connected_components(graph, directed=False)
    first_rows = dict[int, int]()
    return {
        row: first_rows.setdefault(component, row)
        for row, component in zip(rows, components.tolist(), strict=False)
    }


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
