"""What can be scored, on what and how, by the names that a person types. No torch here."""

from collections.abc import Iterable
from typing import NamedTuple

RANDOM_TOWER = "random tower"  # the floor: what a training begins with
REFERENCES = ("raw pixels", "HOG and colour")  # features that were never trained
TASKS = ("Twemoji group", "Twemoji subgroup", "rooms", "silhouettes, 20 per class", "silhouettes, 100 per class")

LABELS = "one class a picture"
SEVERAL_LABELS = "several classes a picture, or none"
MASKS, OBJECTS = "a class for every pixel", "boxes and masks of objects"
# Kinds of tasks, by their names.
KINDS: dict[str, str] = {
    **dict.fromkeys(TASKS, LABELS),
    **dict.fromkeys(("scenes-labels", "coco-labels", "voc-labels"), SEVERAL_LABELS),
    **dict.fromkeys(("scenes-segmentation", "ade20k", "voc-segmentation", "masks"), MASKS),
    **dict.fromkeys(("scenes-detection", "coco"), OBJECTS),
}


class Takes(NamedTuple):
    """What a protocol can be asked."""

    kind: str  # of tasks
    towers_only: bool = False  # features of pictures are not enough for it


PROTOCOLS: dict[str, Takes] = {
    "linear-probe": Takes(LABELS),
    "k-nn": Takes(LABELS),
    "fine-tune": Takes(LABELS, towers_only=True),
    "multi-label": Takes(SEVERAL_LABELS),
    "multi-label-fine-tune": Takes(SEVERAL_LABELS, towers_only=True),
    "segmentation": Takes(MASKS, towers_only=True),
    "detection": Takes(OBJECTS, towers_only=True),
}
DEFAULT_PROTOCOLS = ("linear-probe", "k-nn", "multi-label", "segmentation", "detection")


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
