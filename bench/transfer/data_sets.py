"""Labelled data sets by torchvision's names, where they lie; nothing is downloaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from bench.transfer.pictures import ArrayPictures, FilePictures, Pictures
from bench.transfer.split import Found, task_of
from bench.transfer.tasks import Task

TRAIN_AND_TEST = {"train": {"split": "train"}, "test": {"split": "test"}}
THREE_PARTS = {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}
FLAGGED = {"train": {"train": True}, "test": {"train": False}}
ALL_IN_ONE: dict[str, dict[str, Any]] = {"train": {}}
NAMED = 3


@dataclass(frozen=True, slots=True)
class DataSet:
    """A class of torchvision.datasets, what it is called with for each part, and the files that it reads."""

    of: str
    parts: Mapping[str, Mapping[str, Any]]
    layout: str


DATA_SETS = {
    "cifar10": DataSet("CIFAR10", FLAGGED, "cifar-10-batches-py/{batches.meta, data_batch_1 to 5, test_batch}"),
    "cifar100": DataSet("CIFAR100", FLAGGED, "cifar-100-python/{meta, train, test}"),
    "mnist": DataSet("MNIST", FLAGGED, "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "fashionmnist": DataSet("FashionMNIST", FLAGGED, "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
    "svhn": DataSet("SVHN", TRAIN_AND_TEST, "{train,test}_32x32.mat"),
    "stl10": DataSet("STL10", TRAIN_AND_TEST, "stl10_binary/{class_names.txt, {train,test}_{X,y}.bin}"),
    "flowers102": DataSet(
        "Flowers102", THREE_PARTS, "flowers-102/{imagelabels.mat, setid.mat, jpg/image_00001.jpg to image_08189.jpg}"
    ),
    "oxfordiiitpet": DataSet(
        "OxfordIIITPet",
        {"train": {"split": "trainval"}, "test": {"split": "test"}},
        "oxford-iiit-pet/{images/NAME.jpg, annotations/{trainval,test}.txt}",
    ),
    "food101": DataSet("Food101", TRAIN_AND_TEST, "food-101/{images/CLASS/ID.jpg, meta/{train,test}.json}"),
    "dtd": DataSet("DTD", THREE_PARTS, "dtd/dtd/{images/CLASS/NAME.jpg, labels/{train,val,test}1.txt}"),
    "fgvcaircraft": DataSet(
        "FGVCAircraft",
        THREE_PARTS,
        "fgvc-aircraft-2013b/data/{images/ID.jpg, variants.txt, images_variant_{train,val,test}.txt}",
    ),
    "stanfordcars": DataSet(
        "StanfordCars",
        TRAIN_AND_TEST,
        "stanford_cars/{devkit/cars_{meta,train_annos}.mat, cars_test_annos_withlabels.mat, cars_{train,test}/ID.jpg}",
    ),
    "country211": DataSet(
        "Country211",
        {"train": {"split": "train"}, "validation": {"split": "valid"}, "test": {"split": "test"}},
        "country211/{train,valid,test}/COUNTRY/IMAGE.jpg",
    ),
    "sun397": DataSet("SUN397", ALL_IN_ONE, "SUN397/{ClassName.txt, LETTER/CLASS/sun_ID.jpg}"),
    "eurosat": DataSet("EuroSAT", ALL_IN_ONE, "eurosat/2750/CLASS/CLASS_NUMBER.jpg"),
    "places365": DataSet(
        "Places365",
        {"train": {"split": "train-standard", "small": True}, "test": {"split": "val", "small": True}},
        "{categories_places365.txt, places365_{train_standard,val}.txt, data_256_standard/, val_256/}",
    ),
}


def data_set_task(name: str, root: Path, cache: Path) -> Task:
    """Read a task by torchvision's name; ValueError tells the layout, or where labels and images disagree."""
    wanted = DATA_SETS[name]
    expected = f"torchvision's {wanted.of} reads\n  {root}/{wanted.layout}"
    opened = {}
    for part, arguments in wanted.parts.items():
        try:
            opened[part] = getattr(datasets, wanted.of)(root, download=False, **arguments)
        except (RuntimeError, OSError) as error:
            reason = re.split(r" You can (?:use|set) download=True", str(error))[0]
            raise ValueError(f"{root} does not hold the {part} part of {name} ({reason}); {expected}") from None
    found = {part: _found(f"the {part} part of {name}", data) for part, data in opened.items()}
    return task_of(name, _classes(opened["train"]), found["train"], found.get("validation"), found.get("test"), cache)


def _classes(data: Any) -> list[str]:
    """Return the classes' names, or their numbers where torchvision knows no names."""
    names = getattr(data, "classes", None)
    return [*map(str, names)] if names else [str(label) for label in range(int(max(_raw(data)[1])) + 1)]


def _found(place: str, data: Any) -> Found:
    raw, labels = _raw(data)
    if len(raw) != len(labels):
        raise ValueError(f"{place} has {len(raw):,} images and {len(labels):,} labels")
    return Found(place, _pictures(place, raw), np.asarray(labels, dtype=int))


def _raw(data: Any) -> tuple[Any, Any]:
    """Return a data set's arrays or paths, and labels, without decoding anything: torchvision keeps them privately."""
    fields = vars(data)
    if "data" in fields:
        return data.data, fields.get("targets", fields.get("labels"))
    for files, labels in (("_image_files", "_labels"), ("_images", "_labels")):
        if files in fields:
            return fields[files], fields[labels]
    samples = fields["_samples"] if "_samples" in fields else fields.get("samples", fields.get("imgs"))
    return [path for path, _ in samples], [label for _, label in samples]


def _pictures(place: str, raw: Any) -> Pictures:
    if not isinstance(raw, list):
        return ArrayPictures(channels_first(torch.as_tensor(raw)))
    paths = [*map(Path, raw)]
    if absent := [path for path in paths if not path.is_file()]:
        told = ", ".join(map(str, absent[:NAMED])) + (" ..." if len(absent) > NAMED else "")
        raise ValueError(
            f"{place}: {len(absent):,} of the {len(paths):,} images that its labels name are not there ({told})"
        )
    return FilePictures(paths)


def channels_first(pixels: torch.Tensor) -> torch.Tensor:
    """Bring pictures as torchvision keeps them (grey; colours last, or behind the number) into one form."""
    if pixels.ndim == 3:  # noqa: PLR2004 - MNIST's
        return pixels.unsqueeze(1).expand(-1, 3, -1, -1)
    return pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2)  # noqa: PLR2004
