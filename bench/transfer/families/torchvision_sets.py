"""Labelled data sets that torchvision reads. No torch here."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.interfaces.catalog import SINGLE_LABEL, LazyFunction, Task

FLAGGED: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
ALL_IN_ONE: dict[str, dict[str, Any]] = {"train": {}}


class DataSet(NamedTuple):
    """A data set on disk that a class of torchvision.datasets reads; nothing is downloaded."""

    reader: str  # name of the class
    parts: Mapping[str, Mapping[str, Any]]  # its arguments for each part
    layout: str  # of the files, below the root


def _splits(train: str = "train", test: str = "test", **others: str) -> dict[str, dict[str, Any]]:
    return {
        part: {"split": split} for part, split in {"train": train, "test": test, **others}.items()
    }


DATA_SETS: dict[str, DataSet] = {
    "cifar10": DataSet(
        "CIFAR10", FLAGGED, "cifar-10-batches-py/{batches.meta, data_batch_1 to 5, test_batch}"
    ),
    "cifar100": DataSet("CIFAR100", FLAGGED, "cifar-100-python/{meta, train, test}"),
    "mnist": DataSet("MNIST", FLAGGED, "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "fashionmnist": DataSet(
        "FashionMNIST", FLAGGED, "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"
    ),
    "svhn": DataSet("SVHN", _splits(), "{train,test}_32x32.mat"),
    "stl10": DataSet("STL10", _splits(), "stl10_binary/{class_names.txt, {train,test}_{X,y}.bin}"),
    "flowers102": DataSet(
        "Flowers102",
        _splits(validation="val"),
        "flowers-102/{imagelabels.mat, setid.mat, jpg/image_00001.jpg to image_08189.jpg}",
    ),
    "oxfordiiitpet": DataSet(
        "OxfordIIITPet",
        _splits("trainval"),
        "oxford-iiit-pet/{images/NAME.jpg, annotations/{trainval,test}.txt}",
    ),
    "food101": DataSet(
        "Food101", _splits(), "food-101/{images/CLASS/ID.jpg, meta/{train,test}.json}"
    ),
    "dtd": DataSet(
        "DTD",
        _splits(validation="val"),
        "dtd/dtd/{images/CLASS/NAME.jpg, labels/{train,val,test}1.txt}",
    ),
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
    "country211": DataSet(
        "Country211", _splits(validation="valid"), "country211/{train,valid,test}/COUNTRY/IMAGE.jpg"
    ),
    "sun397": DataSet("SUN397", ALL_IN_ONE, "SUN397/{ClassName.txt, LETTER/CLASS/sun_ID.jpg}"),
    "eurosat": DataSet("EuroSAT", ALL_IN_ONE, "eurosat/2750/CLASS/CLASS_NUMBER.jpg"),
    "places365": DataSet(
        "Places365",
        {
            "train": {"split": "train-standard", "small": True},
            "test": {"split": "val", "small": True},
        },
        "{categories_places365.txt, places365_{train_standard,val}.txt, data_256_standard/, val_256/}",
    ),
}
TASKS = tuple(
    Task(
        name,
        SINGLE_LABEL,
        LazyFunction("bench.transfer.tasks.data_sets:data_set_task", (name,)),
        data_set.layout,
    )
    for name, data_set in DATA_SETS.items()
)
