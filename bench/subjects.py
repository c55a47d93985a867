"""What can be scored, on what and how, by the names that a person types. No torch here."""

from collections.abc import Iterable
from typing import NamedTuple

RANDOM_TOWER = "random tower"  # the floor: what a training begins with
REFERENCE_TOWER = "reference:"  # before a tower's file: it is the ceiling
REFERENCES = ("raw pixels", "HOG and colour")  # features that were never trained
TASKS = ("Twemoji group", "Twemoji subgroup", "rooms", "silhouettes, 20 per class", "silhouettes, 100 per class")

LABELS = "one class a picture"
FOLDERS = ("imagefolder", "imagenet")  # data sets on disk, a folder for each class
DATA_SETS = (  # on disk, by the names of torchvision's classes
    *("cifar10", "cifar100", "mnist", "fashionmnist", "svhn", "stl10", "flowers102", "oxfordiiitpet", "food101", "dtd"),
    *("fgvcaircraft", "stanfordcars", "country211", "sun397", "eurosat", "places365"),
)
KINDS: dict[str, str] = dict.fromkeys((*TASKS, *FOLDERS, *DATA_SETS), LABELS)  # of tasks, by their names


class Takes(NamedTuple):
    """What a protocol can be asked."""

    kind: str  # of tasks
    towers_only: bool = False  # features of pictures are not enough for it
    by_default: bool = False  # where no protocol is named


PROTOCOLS: dict[str, Takes] = {
    "linear-probe": Takes(LABELS, by_default=True),
    "k-nn": Takes(LABELS, by_default=True),
    "few-shot": Takes(LABELS),
    "label-fractions": Takes(LABELS),
    "transfer-init": Takes(LABELS, towers_only=True),
}
DEFAULT_PROTOCOLS = ("linear-probe", "k-nn")


def scorings(subject: str, tasks: Iterable[str], protocols: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of a task and a protocol that fit each other and the subject."""
    asked = [*protocols]
    has_tower = subject not in REFERENCES
    return [
        (task, protocol)
        for task in tasks
        for protocol in asked
        if PROTOCOLS[protocol].kind == KINDS[task] and (has_tower or not PROTOCOLS[protocol].towers_only)
    ]
