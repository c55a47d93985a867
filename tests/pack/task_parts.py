"""The parts of the tasks on the pack's emoji: `python -m tests.pack.task_parts`.

Emoji that are drawn alike, or have equal captions, stay in one part. The tasks on all emoji are split in halves class
by class. `unseen subgroup` tests held-out concepts, and trains others unless they are drawn like a held-out one. In
`unseen emoji retrieval` one vendor of pre-training draws the validation queries, and the others the gallery. A quarter
of each class of the training part is for validation. Splits depend on hashes of keys alone.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence

from scipy.cluster.hierarchy import DisjointSet

from bench.data.held_out import ALIKE, SHOWN
from bench.data.manifest import user_cache_folder
from bench.data.pack import PackImages, load_pack_images
from bench.interfaces.catalog import EMOJI_TASKS, UNSEEN_TASKS
from bench.tables.groups import group_by
from bench.transfer.tasks.pack_tasks import CLASS_FIELDS, PARTS_FILE
from bench.transfer.tasks.tasks import VALIDATION_SHARE
from tests.pack.held_out_concepts import excluded_concepts

MIN_MEMBERS = 20  # images of a subgroup that the task on all emoji keeps
PEOPLE = "people-body"  # a group whose subgroups are poses and skin tones
MIN_TRAINED = 8  # training images of an unseen subgroup
MIN_TESTED = 5  # test images of an unseen subgroup
VALIDATION_VENDOR = "fluent-emoji-flat-"  # begins the keys of the validation queries
SUBGROUPS, RETRIEVAL = UNSEEN_TASKS


def link_duplicates(images: PackImages, rows: Sequence[int]) -> dict[int, int]:
    """Return for each row the first row that equal captions or pixels link to it, directly or by other rows."""
    links = DisjointSet(rows)
    first_rows = dict[object, int]()  # by caption and by pixels
    for row in rows:
        for content in (images.captions[row], images.premultiplied_rgba[row].numpy().tobytes()):
            links.merge(row, first_rows.setdefault(content, row))
    return {row: min(links.subset(row)) for row in rows}


def sort_by_hash(images: PackImages, rows: Iterable[int], salt: str) -> list[int]:
    return sorted(
        rows, key=lambda row: hashlib.sha256(f"{salt}/{images.keys[row]}".encode()).digest()
    )


def name_parts(
    name: str, images: PackImages, train: Sequence[int], test: Sequence[int]
) -> dict[str, str]:
    """Return the part of each key; a quarter of each class of `train` is for validation."""
    labels = [label[CLASS_FIELDS[name]] for label in images.classes]
    group_of = link_duplicates(images, train)
    validation = set[int]()
    for members in group_by(train, labels.__getitem__).values():
        wanted = max(1, round(len(members) * VALIDATION_SHARE))
        groups = {group_of[row] for row in members}
        for group in sort_by_hash(images, groups, f"validation/{name}"):
            if len(validation.intersection(members)) < wanted:
                validation.update(row for row in train if group_of[row] == group)
    parts = dict.fromkeys(train, "train") | dict.fromkeys(validation, "validation")
    parts |= dict.fromkeys(test, "test")
    return {images.keys[row]: part for row, part in parts.items()}


def split_emoji(name: str, images: PackImages) -> dict[str, str]:
    labels = [label[CLASS_FIELDS[name]] for label in images.classes]
    rows = list(range(len(images)))
    if CLASS_FIELDS[name] == "subgroup":
        rows = [row for row in rows if images.classes[row]["group"] != PEOPLE]
        sizes = Counter(labels[row] for row in rows)
        rows = [row for row in rows if sizes[labels[row]] >= MIN_MEMBERS]
    group_of = link_duplicates(images, rows)
    train = list[int]()
    test = list[int]()
    for members in group_by(rows, labels.__getitem__).values():
        groups = {group_of[row] for row in members if row not in {*train, *test}}
        for group in sort_by_hash(images, groups, name):
            shorter = train if len(train) <= len(test) else test
            shorter += [row for row in rows if group_of[row] == group]
    return name_parts(name, images, train, test)


def split_unseen_subgroups(
    images: PackImages, held_out: set[str], alike: set[str]
) -> dict[str, str]:
    """Return the parts; subgroups with too few images are left out."""
    labels = images.classes
    groups = {label["group"] for label in labels if label["concept"] in held_out}
    test = [row for row, label in enumerate(labels) if label["concept"] in held_out]
    train = [
        row
        for row, label in enumerate(labels)
        if label["group"] in groups and label["concept"] not in held_out | alike
    ]
    num_train = Counter(labels[row]["subgroup"] for row in train)
    num_test = Counter(labels[row]["subgroup"] for row in test)

    def keep(rows: Sequence[int]) -> list[int]:
        subgroups = [labels[row]["subgroup"] for row in rows]
        return [
            row
            for row, name in zip(rows, subgroups, strict=True)
            if num_train[name] >= MIN_TRAINED and num_test[name] >= MIN_TESTED
        ]

    return name_parts(SUBGROUPS, images, keep(train), keep(test))


def split_retrieval(
    pretrain: PackImages, twemoji: PackImages, held_out: set[str]
) -> dict[str, str]:
    parts = {}
    for images in (pretrain, twemoji):
        for key, label in zip(images.keys, images.classes, strict=True):
            if label.get("concept") in held_out:
                gallery = "validation" if key.startswith(VALIDATION_VENDOR) else "train"
                parts[key] = "test" if images is twemoji else gallery
    return parts


def split_all(pretrain: PackImages, twemoji: PackImages) -> dict[str, dict[str, str]]:
    """Return the part of each key, by task."""
    held_out, alike = (
        excluded_concepts(reason, pretrain.keys, pretrain.classes) for reason in (SHOWN, ALIKE)
    )
    return {
        **{name: split_emoji(name, twemoji) for name in EMOJI_TASKS},
        SUBGROUPS: split_unseen_subgroups(twemoji, held_out, alike),
        RETRIEVAL: split_retrieval(pretrain, twemoji, held_out),
    }


if __name__ == "__main__":
    pretrain, twemoji = (
        load_pack_images(part, user_cache_folder()) for part in ("pretrain", "twemoji")
    )
    parts = split_all(pretrain, twemoji)
    with PARTS_FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", *parts])
        for key in (*pretrain.keys, *twemoji.keys):
            of_tasks = [part_by_key.get(key, "") for part_by_key in parts.values()]
            if any(of_tasks):
                writer.writerow([key, *of_tasks])
