"""The names of towers, tasks and protocols that the command line accepts. No torch here."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Role = Literal["", "reference", "untrained"]  # as it is; the upper bound; its architecture with random weights
RANDOM_TOWER = "random tower"  # the random-init baseline: the experiment's tower before training
REFERENCES = ("raw pixels", "HOG and colour")  # features that were never trained
TASKS = ("Twemoji group", "Twemoji subgroup", "rooms", "silhouettes, 20 per class", "silhouettes, 100 per class")
SCENES = ("scenes-labels", "scenes-segmentation", "scenes-detection")  # composed of the pack's images

LABELS = "one class a picture"
SEVERAL_LABELS = "several classes a picture, or none"
MASKS, OBJECTS = "a class for every pixel", "boxes and masks of objects"
FOLDERS = ("imagefolder", "imagenet")  # data sets on disk with one folder per class
DATA_SETS = (  # on disk, named after torchvision's classes
    *("cifar10", "cifar100", "mnist", "fashionmnist", "svhn", "stl10", "flowers102", "oxfordiiitpet", "food101", "dtd"),
    *("fgvcaircraft", "stanfordcars", "country211", "sun397", "eurosat", "places365"),
)
# Tasks that need a root folder, with the kinds of their labels; the pack holds the others.
ON_DISK: dict[str, str] = {
    **dict.fromkeys((*FOLDERS, *DATA_SETS), LABELS),
    **dict.fromkeys(("coco-labels", "voc-labels"), SEVERAL_LABELS),
    **dict.fromkeys(("ade20k", "voc-segmentation", "masks"), MASKS),
    "coco": OBJECTS,
}
KINDS = dict.fromkeys(TASKS, LABELS) | dict(zip(SCENES, (SEVERAL_LABELS, MASKS, OBJECTS), strict=True)) | ON_DISK


class Scored(NamedTuple):
    """A tower or features to score."""

    name: str  # a tower as `bench.towers.tower_from` accepts it, RANDOM_TOWER or one of REFERENCES
    role: Role = ""

    @property
    def title(self) -> str:
        """Name it in messages."""
        return f"{self.name} ({self.role})" if self.role else self.name


class Takes(NamedTuple):
    """The tasks and features that a protocol accepts."""

    kind: str  # the kind of label of its tasks
    towers_only: bool = False  # it needs a tower; precomputed features are not enough
    by_default: bool = False  # it is used where no protocol is named


PROTOCOLS: dict[str, Takes] = {
    "linear-probe": Takes(LABELS, by_default=True),
    "k-nn": Takes(LABELS, by_default=True),
    "few-shot": Takes(LABELS),
    "label-fractions": Takes(LABELS),
    "fine-tune": Takes(LABELS, towers_only=True),
    "multi-label": Takes(SEVERAL_LABELS, by_default=True),
    "multi-label-fine-tune": Takes(SEVERAL_LABELS, towers_only=True),
    "segmentation": Takes(MASKS, towers_only=True, by_default=True),
    "detection": Takes(OBJECTS, towers_only=True, by_default=True),
    "transfer-init": Takes(LABELS, towers_only=True),
}
DEFAULT_PROTOCOLS = tuple(name for name, takes in PROTOCOLS.items() if takes.by_default)


def scorings(subject: str, tasks: Iterable[str], protocols: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of a task and a protocol that are compatible with each other and with the subject."""
    asked = [*protocols]
    has_tower = subject not in REFERENCES
    return [
        (task, protocol)
        for task in tasks
        for protocol in asked
        if PROTOCOLS[protocol].kind == KINDS[task] and (has_tower or not PROTOCOLS[protocol].towers_only)
    ]
