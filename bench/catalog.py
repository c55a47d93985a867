"""The names of towers, tasks and protocols that the command line accepts. No torch here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Role = Literal["", "reference", "untrained"]  # as it is; the upper bound; its architecture with random weights
RANDOM_INIT = "random init"  # the random-init baseline: the experiment's tower before training
REFERENCES = ("raw pixels", "HOG and colour")  # features that were never trained
RETRIEVAL_TASK = "emoji retrieval"
DEFAULT_TASKS = ("Twemoji group", "Twemoji subgroup", "rooms", RETRIEVAL_TASK)  # scored where no task is named
EMOJI_TASKS = ("Twemoji group", "Twemoji subgroup", RETRIEVAL_TASK)
SMOKE_TASKS = ("rooms", RETRIEVAL_TASK)  # the smallest task that is classified, and the one that is not
SILHOUETTES = ("silhouettes 20 per class", "silhouettes 100 per class")  # grey shapes, which HOG classifies best
PACK_TASKS = (*DEFAULT_TASKS, *SILHOUETTES)  # of single images of the pack
SCENES = ("scenes-labels", "scenes-segmentation", "scenes-detection")  # composed of the pack's images

SINGLE_LABEL = "one class per image"
MULTI_LABEL = "several classes per image, or none"
GALLERY = "a gallery with another image of each query's class"
MASKS, OBJECTS = "a class for every pixel", "boxes and masks of objects"
FOLDERS = ("imagefolder", "imagenet")  # data sets on disk with one folder per class
FLAGGED: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
ALL_IN_ONE: dict[str, dict[str, Any]] = {"train": {}}


class DataSet(NamedTuple):
    """A data set on disk that a class of torchvision.datasets reads; nothing is downloaded."""

    reader: str  # name of the class
    parts: Mapping[str, Mapping[str, Any]]  # its arguments for each part
    layout: str  # of the files, below the root


def _splits(train: str = "train", test: str = "test", **others: str) -> dict[str, dict[str, Any]]:
    return {part: {"split": split} for part, split in {"train": train, "test": test, **others}.items()}


DATA_SETS: dict[str, DataSet] = {
    "cifar10": DataSet("CIFAR10", FLAGGED, "cifar-10-batches-py/{batches.meta, data_batch_1 to 5, test_batch}"),
    "cifar100": DataSet("CIFAR100", FLAGGED, "cifar-100-python/{meta, train, test}"),
    "mnist": DataSet("MNIST", FLAGGED, "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "fashionmnist": DataSet("FashionMNIST", FLAGGED, "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "svhn": DataSet("SVHN", _splits(), "{train,test}_32x32.mat"),
    "stl10": DataSet("STL10", _splits(), "stl10_binary/{class_names.txt, {train,test}_{X,y}.bin}"),
    "flowers102": DataSet(
        "Flowers102",
        _splits(validation="val"),
        "flowers-102/{imagelabels.mat, setid.mat, jpg/image_00001.jpg to image_08189.jpg}",
    ),
    "oxfordiiitpet": DataSet(
        "OxfordIIITPet", _splits("trainval"), "oxford-iiit-pet/{images/NAME.jpg, annotations/{trainval,test}.txt}"
    ),
    "food101": DataSet("Food101", _splits(), "food-101/{images/CLASS/ID.jpg, meta/{train,test}.json}"),
    "dtd": DataSet("DTD", _splits(validation="val"), "dtd/dtd/{images/CLASS/NAME.jpg, labels/{train,val,test}1.txt}"),
    "fgvcaircraft": DataSet(
        "FGVCAircraft",
        _splits(validation="val"),
        "fgvc-aircraft-2013b/data/{images/ID.jpg, variants.txt, images_variant_{train,val,test}.txt}",
    ),
    "stanfordcars": DataSet(
        "StanfordCars",
        _splits(),
        "stanford_cars/{devkit/cars_{meta,train_annos}.mat, cars_test_annos_withlabels.mat, cars_{train,test}/ID.jpg}",
    ),
    "country211": DataSet("Country211", _splits(validation="valid"), "country211/{train,valid,test}/COUNTRY/IMAGE.jpg"),
    "sun397": DataSet("SUN397", ALL_IN_ONE, "SUN397/{ClassName.txt, LETTER/CLASS/sun_ID.jpg}"),
    "eurosat": DataSet("EuroSAT", ALL_IN_ONE, "eurosat/2750/CLASS/CLASS_NUMBER.jpg"),
    "places365": DataSet(
        "Places365",
        {"train": {"split": "train-standard", "small": True}, "test": {"split": "val", "small": True}},
        "{categories_places365.txt, places365_{train_standard,val}.txt, data_256_standard/, val_256/}",
    ),
}
# Tasks that need a root folder, with the kinds of their labels; the pack holds the others.
ON_DISK: dict[str, str] = {
    **dict.fromkeys((*FOLDERS, *DATA_SETS), SINGLE_LABEL),
    **dict.fromkeys(("coco-labels", "voc-labels"), MULTI_LABEL),
    **dict.fromkeys(("ade20k", "voc-segmentation", "masks"), MASKS),
    "coco": OBJECTS,
}
TASK_KINDS = (
    dict.fromkeys(PACK_TASKS, SINGLE_LABEL)
    | {RETRIEVAL_TASK: GALLERY}
    | dict(zip(SCENES, (MULTI_LABEL, MASKS, OBJECTS), strict=True))
    | ON_DISK
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
    "retrieval": ProtocolSpec(GALLERY, is_default=True),
    "few-shot": ProtocolSpec(SINGLE_LABEL),
    "label-fractions": ProtocolSpec(SINGLE_LABEL),
    "linear-probe-catlip": ProtocolSpec(SINGLE_LABEL, needs_tower=True),
    **dict.fromkeys(("fine-tune", "fine-tune-paper", "fine-tune-512px"), ProtocolSpec(SINGLE_LABEL, needs_tower=True)),
    "multi-label": ProtocolSpec(MULTI_LABEL, is_default=True),
    "multi-label-fine-tune": ProtocolSpec(MULTI_LABEL, needs_tower=True),
    "multi-label-fine-tune-paper": ProtocolSpec(MULTI_LABEL, needs_tower=True),
    "segmentation": ProtocolSpec(MASKS, needs_tower=True, is_default=True),
    "detection": ProtocolSpec(OBJECTS, needs_tower=True, is_default=True),
    "transfer-init": ProtocolSpec(SINGLE_LABEL, needs_tower=True),
}
DEFAULT_PROTOCOLS = tuple(name for name, spec in PROTOCOLS.items() if spec.is_default)


def describe_known_concepts(tasks: Iterable[str]) -> str:
    """Return the sentence on what the pack's emoji tasks measure; empty without one of them."""
    if not {*tasks} & {*EMOJI_TASKS}:
        return ""
    return (
        "The pack's emoji tasks measure whether a known concept is found in another style, and have no new concept: "
        "the pack's pre-training shows each of their emoji as other vendors draw it, with its own name in the caption."
    )


def compatible_pairs(subject: str, tasks: Iterable[str], protocols: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of a task and a protocol that are compatible with each other and with the subject."""
    has_tower = subject not in REFERENCES
    return [
        (task, protocol)
        for task in tasks
        for protocol in protocols
        if PROTOCOLS[protocol].kind == TASK_KINDS[task] and (has_tower or not PROTOCOLS[protocol].needs_tower)
    ]
