"""The names of towers, tasks and protocols that the command line accepts. No torch here."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Role = Literal["", "reference", "untrained"]  # as it is; the upper bound; its architecture with random weights
RANDOM_INIT = "random init"  # the random-init baseline: the experiment's tower before training
REFERENCES = ("raw pixels", "HOG and colour")  # features that were never trained
TASKS = ("Twemoji group", "Twemoji subgroup", "rooms", "silhouettes, 20 per class", "silhouettes, 100 per class")
SCENES = ("scenes-labels", "scenes-segmentation", "scenes-detection")  # composed of the pack's images

SINGLE_LABEL = "one class per image"
MULTI_LABEL = "several classes per image, or none"
MASKS, OBJECTS = "a class for every pixel", "boxes and masks of objects"
FOLDERS = ("imagefolder", "imagenet")  # data sets on disk with one folder per class
DATA_SETS = (  # on disk, named after torchvision's classes
    *("cifar10", "cifar100", "mnist", "fashionmnist", "svhn", "stl10", "flowers102", "oxfordiiitpet", "food101", "dtd"),
    *("fgvcaircraft", "stanfordcars", "country211", "sun397", "eurosat", "places365"),
)
# Tasks that need a root folder, with the kinds of their labels; the pack holds the others.
ON_DISK: dict[str, str] = {
    **dict.fromkeys((*FOLDERS, *DATA_SETS), SINGLE_LABEL),
    **dict.fromkeys(("coco-labels", "voc-labels"), MULTI_LABEL),
    **dict.fromkeys(("ade20k", "voc-segmentation", "masks"), MASKS),
    "coco": OBJECTS,
}
TASK_KINDS = (
    dict.fromkeys(TASKS, SINGLE_LABEL) | dict(zip(SCENES, (MULTI_LABEL, MASKS, OBJECTS), strict=True)) | ON_DISK
)


class ScoringSubject(NamedTuple):
    """A tower or features to score."""

    name: str  # a tower as `bench.towers.load_tower` accepts it, RANDOM_INIT or one of REFERENCES
    role: Role = ""

    @property
    def title(self) -> str:
        """Name it in messages."""
        return f"{self.name} ({self.role})" if self.role else self.name


class ProtocolSpec(NamedTuple):
    """The tasks and features that a protocol accepts."""

    kind: str  # the kind of label of its tasks
    needs_tower: bool = False  # it needs a tower; precomputed features are not enough
    is_default: bool = False  # it is used where no protocol is named


PROTOCOLS: dict[str, ProtocolSpec] = {
    "linear-probe": ProtocolSpec(SINGLE_LABEL, is_default=True),
    "k-nn": ProtocolSpec(SINGLE_LABEL, is_default=True),
    "few-shot": ProtocolSpec(SINGLE_LABEL),
    "label-fractions": ProtocolSpec(SINGLE_LABEL),
    "fine-tune": ProtocolSpec(SINGLE_LABEL, needs_tower=True),
    "multi-label": ProtocolSpec(MULTI_LABEL, is_default=True),
    "multi-label-fine-tune": ProtocolSpec(MULTI_LABEL, needs_tower=True),
    "segmentation": ProtocolSpec(MASKS, needs_tower=True, is_default=True),
    "detection": ProtocolSpec(OBJECTS, needs_tower=True, is_default=True),
    "transfer-init": ProtocolSpec(SINGLE_LABEL, needs_tower=True),
}
DEFAULT_PROTOCOLS = tuple(name for name, spec in PROTOCOLS.items() if spec.is_default)


def compatible_pairs(subject: str, tasks: Iterable[str], protocols: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of a task and a protocol that are compatible with each other and with the subject."""
    has_tower = subject not in REFERENCES
    return [
        (task, protocol)
        for task in tasks
        for protocol in protocols
        if PROTOCOLS[protocol].kind == TASK_KINDS[task] and (has_tower or not PROTOCOLS[protocol].needs_tower)
    ]
