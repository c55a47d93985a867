"""COCO's layout: labels, masks in all their forms, and what is reported of files that are broken or disagree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.features.dense_tasks.coco import read_coco_detection_task, read_coco_multi_label_task
from bench.features.dense_tasks.detection import DetectionTask, import_pycocotools_module
from bench.transfer.tasks.image_sources import EncodedImageSource
from tests.transfer.trees import make_image

HEIGHT, WIDTH = 10, 20
NAMES = [f"{number:03}" for number in range(6)]


def coco_tree(root: Path, change: Callable[[dict[str, Any]], object] = id) -> Path:
    """Three squares an image: a polygon, runs, compressed runs; the second is a crowd."""
    tool = import_pycocotools_module("mask")
    square = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    square[2:6, 3:9] = 1
    packed = tool.encode(np.asfortranarray(square))
    flat = square.ravel(order="F")
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    polygon = [[3, 2, 9, 2, 9, 6, 3, 6]]
    runs = {"size": [HEIGHT, WIDTH], "counts": np.diff(edges).tolist()}
    compressed = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
    for part in ("train2017", "val2017"):
        rows = [
            {
                "image_id": int(name),
                "category_id": category,
                "bbox": [3, 2, 6, 4],
                "segmentation": kind,
                "iscrowd": crowd,
            }
            for name in NAMES
            for category, kind, crowd in ((7, polygon, 0), (9, runs, 1), (9, compressed, 0))
        ]
        content = {
            "images": [{"id": int(name), "file_name": f"{name}.jpg"} for name in NAMES],
            "annotations": [row | {"id": number} for number, row in enumerate(rows)],
            "categories": [{"id": 9, "name": "dog"}, {"id": 7, "name": "person"}],
        }
        if part == "train2017":
            change(content)
        for name in NAMES:
            make_image(root / part / f"{name}.jpg", size=(WIDTH, HEIGHT))
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def test_polygon_and_run_length_masks_agree(tmp_path: Path) -> None:
    task = read_coco_detection_task(coco_tree(tmp_path), tmp_path / "cache")
    assert task.classes == ("person", "dog")
    assert len(task.train) + len(task.validation) == len(task.test) == len(NAMES)
    rgb, objects = task.train[0]
    assert rgb.shape == (3, HEIGHT, WIDTH)
    assert objects["boxes"].tolist() == [[3, 2, 9, 6]] * 3
    assert objects["labels"].tolist() == [1, 2, 2]
    assert objects["iscrowd"].tolist() == [0, 1, 0]
    square = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    square[2:6, 3:9] = True
    assert all(torch.equal(mask, square) for mask in objects["masks"])


def with_masks(*polygons: list[float]) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            row["segmentation"] = list(polygons)

    return change


def garbled(content: dict[str, Any]) -> None:
    for row in content["annotations"][2::3]:
        row["segmentation"] = row["segmentation"] | {"counts": "Xi8Xo0"}  # longer than the image


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no mask": (with_masks(), r"the mask of an object in .*00\d.jpg: there is none"),
    "garbled runs": (garbled, r"the mask of an object in .*00\d.jpg: "),
    "no box": (
        lambda content: content["annotations"][1].pop("bbox"),
        "missing required field `bbox`",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_annotation_that_does_not_fit_is_named(name: str, tmp_path: Path) -> None:
    change, text = CHANGES[name]
    with pytest.raises(ValueError, match=text):
        read_all(read_coco_detection_task(coco_tree(tmp_path, change), tmp_path / "cache"))


def test_damaged_image_is_named(tmp_path: Path) -> None:
    path = coco_tree(tmp_path) / "train2017" / "003.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"train2017/003.jpg: "):
        read_all(read_coco_detection_task(tmp_path, tmp_path / "cache"))


def read_all(task: DetectionTask) -> None:
    for part in (task.train, task.validation):
        for row in range(len(part)):
            part[row]


def leave_out_some(content: dict[str, Any]) -> None:
    """Leave every third image without an object, and every second one without a dog."""
    kept = []
    for annotation in content["annotations"]:
        number = annotation["image_id"]
        if number % 3 and (annotation["category_id"] == 7 or number % 2):
            kept.append(annotation)
    content["annotations"] = kept


def test_labels_are_the_classes_of_the_annotations(tmp_path: Path) -> None:
    task = read_coco_multi_label_task(coco_tree(tmp_path, leave_out_some), tmp_path / "cache")
    assert task.classes == ("person", "dog")
    parts = (task.train, task.validation, task.test)
    assert [len(part.labels) for part in parts] == [4, 2, 6]
    for part in (task.train, task.validation):
        assert isinstance(part.images, EncodedImageSource)
        for path, shown in zip(part.images.files, part.labels.tolist(), strict=True):
            number = int(path.stem)
            assert shown == [number % 3 > 0, number % 3 > 0 and number % 2 > 0]
    assert task.test.labels.all()
    train = tmp_path / "annotations" / "instances_train2017.json"
    train.with_name("instances_train2014.json").write_bytes(train.read_bytes())
    with pytest.raises(ValueError, match=r"instances_train\*\.json must be one file, got 2"):
        read_coco_multi_label_task(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ("annotations/instances_train2017.json", "annotations/instances_train*.json is not there"),
        ("val2017", "val2017 is not there"),
        ("annotations/instances_val2017.json", "instances_val2017.json is not there"),
    ],
)
def test_missing_coco_file_error_shows_the_layout(tmp_path: Path, lost: str, text: str) -> None:
    path = coco_tree(tmp_path) / lost
    path.rename(path.with_name("instances_val2014.json"))  # of another year
    with pytest.raises(ValueError, match="expected are annotations/instances_train") as error:
        read_coco_multi_label_task(tmp_path, tmp_path / "cache")
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["annotations"][0].update(image_id=77), "an image or a category that is not"),
        (
            lambda c: c["images"][0].update(file_name="../val2017/000.jpg"),
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
        read_coco_multi_label_task(coco_tree(tmp_path, change), tmp_path / "cache")
