"""Labelled data sets by torchvision's names, read from local files; nothing is downloaded.

CIFAR's files are pickles, which torchvision opens only if their digest is the published one.
"""

import io
import re
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets

from bench.transfer.families.torchvision_sets import DATA_SETS
from bench.transfer.tasks.file_tasks import SplitOnDisk, format_classes, make_task
from bench.transfer.tasks.image_sources import ArrayImageSource, FileImageSource, join_first_names
from bench.transfer.tasks.tasks import SingleLabelTask


def data_set_task(name: str, root: Path, cache: Path) -> SingleLabelTask:
    """Read a task by torchvision's name; the ValueError shows the layout, or where labels and images disagree."""
    opened = {part: _open_part(name, part, root) for part in DATA_SETS[name].parts}
    classes = _class_names(opened["train"])
    parts = {
        part: _check_part(f"the {part} part of {name} in {root}", data, classes)
        for part, data in opened.items()
    }
    return make_task(name, classes, parts, cache)


def _open_part(name: str, part: str, root: Path) -> Any:
    data_set = DATA_SETS[name]
    try:
        return getattr(datasets, data_set.reader)(root, download=False, **data_set.parts[part])
    except Exception as error:  # noqa: BLE001 - readers document no exceptions
        file = _find_file_in_traceback(error)
        if file:
            reason = (
                f"{error} is not listed"
                if isinstance(error, KeyError)
                else f"{type(error).__name__}: {error}"
            )
            raise ValueError(
                f"the {part} part of {name} in {root} cannot be read, at {file}: {reason}"
            ) from None
        reason = re.split(r" You can (?:use|set) download=True", str(error))[0]
        expected = f"torchvision's {data_set.reader} reads {root}/{data_set.layout}"
        raise ValueError(
            f"{root} does not hold the {part} part of {name} ({reason}); {expected}"
        ) from None


def _find_file_in_traceback(error: Exception) -> str:
    """Return the file that torchvision opened last, which its errors do not name; empty if there is none."""
    files = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        files += [value for value in frame.f_locals.values() if isinstance(value, io.IOBase)]
    return str(getattr(files[-1], "name", "")) if files else ""


def _class_names(data: Any) -> list[str]:
    """Return the names of the classes, or their numbers where torchvision has no names."""
    names = getattr(data, "classes", None)
    if names:
        return list(map(str, names))
    _, labels = _raw_images_and_labels(data)
    return [str(label) for label in range(int(max(labels)) + 1)]


def _check_part(title: str, data: Any, classes: list[str]) -> SplitOnDisk:
    raw, labels = _raw_images_and_labels(data)
    if len(raw) != len(labels) or not len(raw):
        raise ValueError(f"{title} has {len(raw):,} images and {len(labels):,} labels")
    numbers = np.asarray(labels, dtype=int)
    invalid = sorted(set(numbers.tolist()) - set(range(len(classes))))
    if invalid:
        accepted = f"labels are 0 to {len(classes) - 1}, for {len(classes)} classes"
        raise ValueError(
            f"{title} has labels that are no class: {join_first_names(invalid)} ({accepted})"
        )
    repeated = [class_name for class_name, count in Counter(classes).items() if count > 1]
    if repeated:
        raise ValueError(f"{title} has several labels for {format_classes(repeated)}")
    names = list(map(str, getattr(data, "classes", classes)))
    if names != classes:
        differing = sorted({*names} ^ {*classes}) or ["their order"]
        raise ValueError(
            f"{title} has other classes than the train part: they differ in {join_first_names(differing)}"
        )
    return SplitOnDisk(_image_source(title, raw), numbers, title)


def _raw_images_and_labels(data: Any) -> tuple[Any, Any]:
    """Return a data set's arrays or paths, and labels, without decoding: torchvision has no public field for them."""
    fields = vars(data)
    if "data" in fields:
        return data.data, fields.get("targets", fields.get("labels"))
    for name in ("_image_files", "_images"):
        if name in fields:
            return fields[name], fields["_labels"]
    samples = fields.get("_samples", fields.get("samples", fields.get("imgs")))
    return [path for path, _ in samples], [label for _, label in samples]


def _image_source(title: str, raw: Any) -> FileImageSource | ArrayImageSource:
    if not isinstance(raw, list):
        return ArrayImageSource(rgb_channels_first(torch.as_tensor(raw)))
    paths = list(map(Path, raw))
    absent = [path for path in paths if not path.is_file()]
    if absent:
        count = f"{len(absent):,} of the {len(paths):,} images that its labels name"
        raise ValueError(f"{title}: {count} are not there ({join_first_names(absent)})")
    return FileImageSource(paths)


def rgb_channels_first(pixels: torch.Tensor) -> torch.Tensor:
    """Return torchvision's images (grey, channels last or channels first) as images x 3 x height x width."""
    if pixels.ndim == 3:  # noqa: PLR2004 - MNIST's
        return pixels.unsqueeze(1).expand(-1, 3, -1, -1)
    return pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2)  # noqa: PLR2004
