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


class TaskSplit:
    """The rows of a task's emoji, in groups that stay together."""

    def __init__(self, name: str, images: PackImages, rows: Sequence[int]) -> None:
        self.name = name
        self.images = images
        self.classes = [label[CLASS_FIELDS[name]] for label in images.classes]
        links = DisjointSet(rows)
        first_rows = dict[object, int]()  # by caption and by pixels
        for row in rows:
            for content in (images.captions[row], images.pixels[row].numpy().tobytes()):
                links.merge(row, first_rows.setdefault(content, row))
        self.first_duplicate = {row: min(links.subset(row)) for row in rows}

    def by_class(self, rows: Iterable[int]) -> list[list[int]]:
        return list(group_by(rows, lambda row: self.classes[row]).values())

    def sort_groups(self, rows: Iterable[int], salt: str) -> list[int]:
        """Return the groups of rows, each by its first row, in the order of a hash."""
        return sorted(
            {self.first_duplicate[row] for row in rows},
            key=lambda row: hashlib.sha256(f"{salt}/{self.images.keys[row]}".encode()).digest(),
        )

    def rows_of_group(self, group: int, rows: Iterable[int]) -> list[int]:
        return [row for row in rows if self.first_duplicate[row] == group]

    def split_in_halves(self) -> tuple[list[int], list[int]]:
        train = list[int]()
        test = list[int]()
        for members in self.by_class(self.first_duplicate):
            rest = set(members) - {*train, *test}
            for group in self.sort_groups(rest, self.name):
                shorter = train if len(train) <= len(test) else test
                shorter += self.rows_of_group(group, self.first_duplicate)
        return train, test

    def part_by_key(self, train: Sequence[int], test: Sequence[int]) -> dict[str, str]:
        """Return the parts, where a quarter of each class that is trained is for validation."""
        validation = set[int]()
        for members in self.by_class(train):
            wanted = max(1, round(len(members) * VALIDATION_SHARE))
            for group in self.sort_groups(members, f"validation/{self.name}"):
                if len(validation.intersection(members)) < wanted:
                    validation.update(self.rows_of_group(group, train))
        parts = dict.fromkeys(train, "train") | dict.fromkeys(validation, "validation")
        parts |= dict.fromkeys(test, "test")
        return {self.images.keys[row]: part for row, part in parts.items()}


def split_emoji(name: str, images: PackImages) -> dict[str, str]:
    rows = list(range(len(images)))
    if CLASS_FIELDS[name] == "subgroup":
        rows = [row for row in rows if images.classes[row]["group"] != PEOPLE]
        sizes = Counter(images.classes[row]["subgroup"] for row in rows)
        rows = [row for row in rows if sizes[images.classes[row]["subgroup"]] >= MIN_MEMBERS]
    split = TaskSplit(name, images, rows)
    return split.part_by_key(*split.split_in_halves())


def split_unseen_subgroups(
    images: PackImages, held_out: set[str], alike: set[str]
) -> dict[str, str]:
    """Return the parts; subgroups with too few images are left out."""
    labels = images.classes
    groups = {label["group"] for label in labels if label["concept"] in held_out}
    train = []
    test = []
    for row, label in enumerate(labels):
        if label["concept"] in held_out:
            test.append(row)
        elif label["group"] in groups and label["concept"] not in alike:
            train.append(row)
    num_train = Counter(labels[row]["subgroup"] for row in train)
    num_test = Counter(labels[row]["subgroup"] for row in test)
    kept = {
        name
        for name, count in num_train.items()
        if count >= MIN_TRAINED and num_test[name] >= MIN_TESTED
    }
    train = [row for row in train if labels[row]["subgroup"] in kept]
    test = [row for row in test if labels[row]["subgroup"] in kept]
    return TaskSplit(SUBGROUPS, images, train).part_by_key(train, test)


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
