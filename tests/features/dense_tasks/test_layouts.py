"""COCO's layout: what is read, and what is reported of files that are not there, disagree or mean harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.manifest import CACHE
from bench.features.dense_tasks.coco import read_coco_labels
from bench.features.dense_tasks.multi_label import MultiLabelPart, MultiLabelTask
from bench.transfer.tasks.image_sources import FileImageSource
from tests.transfer.trees import make_image

# Which classes images show: 7 is person, 9 is dog; COCO's ids have gaps.
TRAIN = {
    f"{number:03}": ({7} if number % 2 else {7, 9}) if number % 4 else set() for number in range(12)
}
VAL = {"100": {9}, "101": {7}, "102": set[int]()}
NAMES = {7: "person", 9: "dog"}


def instances(shown: dict[str, set[int]]) -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "images": [
            {"id": int(name), "file_name": f"{name}.jpg", "height": 10, "width": 20}
            for name in shown
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": int(name),
                "category_id": one,
                "iscrowd": crowd,
                "segmentation": [[1, 2, 3]],
            }
            for name, classes in shown.items()
            for one in classes
            for crowd in (0, 1)
        ],
        "categories": [
            {"id": one, "name": name, "supercategory": "x"} for one, name in NAMES.items()
        ],
    }


def coco_tree(root: Path, change: Callable[[dict[str, Any]], object] = id) -> Path:
    (root / "annotations").mkdir()
    for split, shown in (("train2017", TRAIN), ("val2017", VAL)):
        for name in shown:
            make_image(root / split / f"{name}.jpg", size=(20, 10))
        content = instances(shown)
        if split == "train2017":
            change(content)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def shown_by(part: MultiLabelPart, classes: tuple[str, ...]) -> dict[str, set[str]]:
    assert isinstance(part.images, FileImageSource)
    names = [path.stem for path in part.images.files]
    return {
        name: {classes[c] for c in np.flatnonzero(row)}
        for name, row in zip(names, part.labels, strict=True)
    }


def all_shown(task: MultiLabelTask) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    trained = shown_by(task.train, task.classes) | shown_by(task.validation, task.classes)
    return trained, shown_by(task.test, task.classes)


def named(shown: dict[str, set[int]]) -> dict[str, set[str]]:
    return {name: {NAMES[one] for one in classes} for name, classes in shown.items()}


def test_coco_has_the_classes_of_its_annotations(tmp_path: Path) -> None:
    task = read_coco_labels(coco_tree(tmp_path), tmp_path / CACHE)
    assert all_shown(task) == (named(TRAIN), named(VAL))
    assert (task.classes, len(task.validation.images)) == (("person", "dog"), 3)
    assert task.test.images.rgb(0).shape == (3, 10, 20)


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ("annotations/instances_train2017.json", "annotations/instances_train*.json is not there"),
        ("val2017", "val2017 is not there"),
    ],
)
def test_missing_coco_file_error_shows_the_layout(tmp_path: Path, lost: str, text: str) -> None:
    path = coco_tree(tmp_path) / lost
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(ValueError, match="does not hold the task") as error:
        read_coco_labels(tmp_path, tmp_path / CACHE)
    assert text in str(error.value)
    assert (
        "expected are annotations/instances_train2017.json, annotations/instances_val2017.json"
        in str(error.value)
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["annotations"][0].update(image_id=77), "an image or a category that is not"),
        (
            lambda c: c["images"][0].update(file_name="../val2017/100.jpg"),
            "lists 1 images that are not in",
        ),
        (lambda c: c["images"][0].update(id=1), "an image id occurs twice"),
        (lambda c: c["categories"][1].update(name="cat"), "train and val have other categories"),
        (lambda c: c.pop("categories"), "missing required field `categories`"),
    ],
)
def test_inconsistent_coco_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        read_coco_labels(coco_tree(tmp_path, change), tmp_path / CACHE)
