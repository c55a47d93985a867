"""Labelled data sets by torchvision's names, read from local files; nothing is downloaded.

CIFAR's files are pickles, which torchvision opens only if their digest is the published one.
"""

import io
import re
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from bench.transfer.tasks.file_tasks import FoundPart, format_classes, make_task
from bench.transfer.tasks.image_sources import ArrayImageSource, FileImageSource, ImageSource, format_some
from bench.transfer.tasks.tasks import Task

FLAGGED = {"train": {"train": True}, "test": {"train": False}}
ALL_IN_ONE: dict[str, dict[str, Any]] = {"train": {}}


@dataclass(frozen=True, slots=True)
class DataSet:
    """A class of torchvision.datasets, its arguments for each part, and the files that it reads."""

    reader: str
    parts: Mapping[str, Mapping[str, Any]]
    layout: str


def _splits(train: str = "train", test: str = "test", **others: str) -> dict[str, dict[str, Any]]:
    return {part: {"split": split} for part, split in {"train": train, "test": test, **others}.items()}


DATA_SETS = {
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


def data_set_task(name: str, root: Path, cache: Path) -> Task:
    """Read a task by torchvision's name; the ValueError shows the layout, or where labels and images disagree."""
    opened = {part: _open_part(name, part, root) for part in DATA_SETS[name].parts}
    classes = _class_names(opened["train"])
    found = {part: _check_part(f"the {part} part of {name} in {root}", data, classes) for part, data in opened.items()}
    return make_task(name, classes, found["train"], found.get("validation"), found.get("test"), cache)


def _open_part(name: str, part: str, root: Path) -> Any:
    data_set = DATA_SETS[name]
    try:
        return getattr(datasets, data_set.reader)(root, download=False, **data_set.parts[part])
    except Exception as error:  # noqa: BLE001 - readers document no exceptions
        if file := _last_opened_file(error):
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            why = f"{error} is not listed" if isinstance(error, KeyError) else why
            raise ValueError(f"the {part} part of {name} in {root} cannot be read, at {file}: {why}") from None
        reason = re.split(r" You can (?:use|set) download=True", str(error))[0]
        expected = f"torchvision's {data_set.reader} reads\n  {root}/{data_set.layout}"
        raise ValueError(f"{root} does not hold the {part} part of {name} ({reason}); {expected}") from None


def _last_opened_file(error: Exception) -> str | None:
    """Return the file that torchvision opened last, which its errors do not name."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    files = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, io.IOBase)]
    return str(getattr(files[-1], "name", "")) if files else None


def _class_names(data: Any) -> list[str]:
    """Return the names of the classes, or their numbers where torchvision has no names."""
    if names := getattr(data, "classes", None):
        return [*map(str, names)]
    return [str(label) for label in range(int(max(_raw_images_and_labels(data)[1])) + 1)]


def _check_part(title: str, data: Any, classes: list[str]) -> FoundPart:
    raw, labels = _raw_images_and_labels(data)
    if len(raw) != len(labels) or not len(raw):
        raise ValueError(f"{title} has {len(raw):,} images and {len(labels):,} labels")
    numbers = np.asarray(labels, dtype=int)
    if outside := sorted({*numbers.tolist()} - {*range(len(classes))}):
        accepted = f"labels are 0 to {len(classes) - 1}, for {len(classes)} classes"
        raise ValueError(f"{title} has labels that are no class: {format_some(outside)} ({accepted})")
    if twice := [one for one, count in Counter(classes).items() if count > 1]:
        raise ValueError(f"{title} has several labels for {format_classes(twice)}")
    own = [*map(str, getattr(data, "classes", classes))]
    if own != classes:
        differing = sorted({*own} ^ {*classes}) or ["their order"]
        raise ValueError(f"{title} has other classes than the train part: they differ in {format_some(differing)}")
    return FoundPart(_image_source(title, raw), numbers, title)


def _raw_images_and_labels(data: Any) -> tuple[Any, Any]:
    """Return a data set's arrays or paths, and labels, without decoding: torchvision has no public field for them."""
    fields = vars(data)
    if "data" in fields:
        return data.data, fields.get("targets", fields.get("labels"))
    for files, labels in (("_image_files", "_labels"), ("_images", "_labels")):
        if files in fields:
            return fields[files], fields[labels]
    samples = fields["_samples"] if "_samples" in fields else fields.get("samples", fields.get("imgs"))
    return [path for path, _ in samples], [label for _, label in samples]


def _image_source(title: str, raw: Any) -> ImageSource:
    if not isinstance(raw, list):
        return ArrayImageSource(channels_first(torch.as_tensor(raw)))
    paths = [*map(Path, raw)]
    if absent := [path for path in paths if not path.is_file()]:
        named = f"{len(absent):,} of the {len(paths):,} images that its labels name"
        raise ValueError(f"{title}: {named} are not there ({format_some(absent)})")
    return FileImageSource(paths)


def channels_first(pixels: torch.Tensor) -> torch.Tensor:
    """Return torchvision's images (grey, channels last or channels first) as images x 3 x height x width."""
    if pixels.ndim == 3:  # noqa: PLR2004 - MNIST's
        return pixels.unsqueeze(1).expand(-1, 3, -1, -1)
    return pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2)  # noqa: PLR2004
