"""ADE20k's, VOC's, COCO's and plain layouts: what is read, and what is said of files that lie or look otherwise."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.transfer import mask_files
from bench.transfer.coco_objects import coco_objects
from bench.transfer.coco_tools import coco_tool
from bench.transfer.mask_files import VOC_CLASSES, ade20k, mask_folders, voc_masks
from bench.transfer.segmentation import IGNORED, SegmentationTask

HEIGHT, WIDTH = 10, 20
NAMES = [f"{number:03}" for number in range(6)]


def picture(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)


def mask(path: Path, numbers: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint8))
    if palette:
        image = image.convert("P")
        image.putdata(numbers.ravel().tolist())
    image.save(path)


def halves(left: int, right: int) -> np.ndarray:
    return np.repeat(np.repeat([[left, right]], HEIGHT, 0), WIDTH // 2, 1)


def ade_tree(root: Path) -> Path:
    for part in ("training", "validation"):
        for name in NAMES:
            picture(root / "images" / part / f"{name}.jpg")
            mask(root / "annotations" / part / f"{name}.png", halves(0, 150))
    return root


def voc_tree(root: Path) -> Path:
    for part, names in (("train", NAMES[:4]), ("val", NAMES[4:])):
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            picture(root / "JPEGImages" / f"{name}.jpg")
            mask(root / "SegmentationClass" / f"{name}.png", halves(20, 255), palette=True)
    return root


def masks_tree(root: Path) -> Path:
    for part in ("train", "val"):
        for name in NAMES:
            picture(root / "images" / part / f"{name}.png")
            mask(root / "masks" / part / f"{name}.png", halves(1, 0))
    (root / "classes.txt").write_text("ground\nroof\n")
    return root


TREES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], SegmentationTask]]] = {
    "ade20k": (ade_tree, ade20k),
    "voc-segmentation": (voc_tree, voc_masks),
    "masks": (masks_tree, mask_folders),
}


@pytest.mark.parametrize(
    ("name", "classes", "row"),
    [("ade20k", 150, (IGNORED, 149)), ("voc-segmentation", len(VOC_CLASSES), (20, IGNORED)), ("masks", 2, (1, 0))],
)
def test_layouts_are_read(name: str, classes: int, row: tuple[int, int], tmp_path: Path) -> None:
    tree, opened = TREES[name]
    task = opened(tree(tmp_path))
    assert (task.name, len(task.classes)) == (name, classes)
    for part in (task.train, task.validation, task.test):
        assert len(part)
        rgb, numbers = part[0]
        assert rgb.shape == (3, HEIGHT, WIDTH)
        assert (numbers[:, 0] == row[0]).all()
        assert (numbers[:, -1] == row[1]).all()


def test_no_picture_is_in_two_parts(tmp_path: Path) -> None:
    task = mask_folders(masks_tree(tmp_path))
    parts = [set(part.masks) for part in (task.train, task.validation, task.test)]  # type: ignore[attr-defined]
    assert all(one.isdisjoint(other) for one, other in combinations(parts, 2))
    assert sum(map(len, parts)) == 2 * len(NAMES)


@pytest.mark.parametrize("name", TREES)
def test_a_set_that_is_not_there_tells_its_layout(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"(?s){tmp_path} is not laid out as .*NAME.jpg.*NAME.png.*is not there"):
        TREES[name][1](tmp_path)


def spoilt(root: Path, name: str) -> None:
    """Spoil one file of the plain layout."""
    first = root / "masks" / "train" / "000.png"
    match name:
        case "other size":
            mask(first, halves(1, 0)[:-1])
        case "unknown class":
            mask(first, halves(1, 7))
        case "colours":
            picture(first)
        case "no mask":
            first.unlink()
        case "no picture":
            (root / "images" / "train" / "000.png").unlink()
        case "broken picture":
            (root / "images" / "train" / "000.png").write_bytes(b"\x89PNG not one")
        case "cut mask":
            first.write_bytes(first.read_bytes()[:-20])
        case "one class":
            (root / "classes.txt").write_text("ground\n")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("other size", r"1 of 6 pictures cannot be used: .*masks/train/000.png has 20 x 9 px, its picture .* 20 x 10"),
        ("unknown class", r"masks/train/000.png has numbers that are no class of the set: 7"),
        ("colours", r"masks/train/000.png is RGB: a mask has one number a pixel"),
        ("no mask", r"1 of 6 pictures cannot be used: .*masks/train/000.png is missing"),
        ("no picture", r"1 masks of .*masks/train have no picture in .*images/train: 000"),
        ("broken picture", r"1 of 6 pictures cannot be used: .*images/train/000.png is no picture"),
        ("cut mask", r"masks/train/000.png: "),
        ("one class", r"classes.txt names 1 classes"),
    ],
)
def test_files_that_disagree_are_named(name: str, told: str, tmp_path: Path) -> None:
    spoilt(masks_tree(tmp_path), name)
    with pytest.raises(ValueError, match=told):
        read_all(mask_folders(tmp_path))


def read_all(task: SegmentationTask) -> None:
    for part in (task.train, task.validation, task.test):
        for row in range(len(part)):
            part[row]


def coco_tree(root: Path, change: Callable[[dict[str, Any]], object] = id) -> Path:
    """Three squares a picture: a polygon, runs, compressed runs; the second is a crowd."""
    tool = coco_tool("mask")
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
            picture(root / part / f"{name}.jpg")
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def test_polygons_and_runs_are_the_same_square(tmp_path: Path) -> None:
    task = coco_objects(coco_tree(tmp_path))
    assert task.classes == ("person", "dog")
    assert len(task.train) + len(task.validation) == len(task.test) == len(NAMES)
    rgb, objects = task.train[0]
    assert rgb.shape == (3, HEIGHT, WIDTH)
    assert objects.boxes.tolist() == [[3, 2, 9, 6]] * 3
    assert objects.labels.tolist() == [1, 2, 2]
    assert objects.crowd.tolist() == [False, True, False]
    square = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    square[2:6, 3:9] = True
    assert all(torch.equal(found, square) for found in objects.masks)


def sizes_turned(content: dict[str, Any]) -> None:
    for row in content["annotations"][1::3]:
        row["segmentation"] = row["segmentation"] | {"size": [WIDTH, HEIGHT]}


def without_masks(content: dict[str, Any]) -> None:
    for row in content["annotations"]:
        row["segmentation"] = []


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "other size": sizes_turned,
    "unknown category": lambda content: content["annotations"][0].update(category_id=8),
    "no mask": without_masks,
    "no picture": lambda content: content["images"].append({"id": 77, "file_name": "077.jpg"}),
    "other categories": lambda content: content["categories"].append({"id": 10, "name": "cat"}),
    "no box": lambda content: content["annotations"][1].pop("bbox"),
    "nothing": lambda content: content["annotations"].clear(),
}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("other size", r"00\d.jpg has 20 x 10 px, the mask of an object in it 10 x 20"),
        ("unknown category", "annotations name categories that it does not list: 8"),
        ("no mask", r"an object in .*00\d.jpg has no mask"),
        ("no picture", "lists 1 images that are not in .*: 077.jpg"),
        ("other categories", "train and val have other categories"),
        ("no box", "missing required field `bbox`"),
        ("nothing", "instances_train2017.json has no object"),
    ],
)
def test_annotations_that_disagree_are_named(name: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        coco_objects(coco_tree(tmp_path, CHANGES[name])).train[0]


def test_a_coco_that_is_not_there_tells_its_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)is not laid out as COCO is.*instances_train2017.json.*train2017"):
        coco_objects(tmp_path)


def test_classes_are_as_many_as_published() -> None:
    assert (mask_files.ADE20K_CLASSES, len(VOC_CLASSES)) == (150, 21)
