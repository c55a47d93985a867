"""COCO's and VOC's layouts: what is read, and what is reported of files that are not there, disagree or mean harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.manifest import CACHE
from bench.features.dense_tasks import coco as coco_layout
from bench.features.dense_tasks import voc as voc_layout
from bench.features.dense_tasks.coco import coco_labels
from bench.features.dense_tasks.multi_label_tasks import MultiLabelPart, MultiLabelTask
from bench.features.dense_tasks.voc import read_objects, voc_labels
from bench.transfer.tasks import image_sources
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
    root = coco_tree(tmp_path)
    make_image(root / "train2017" / "999.jpg")
    task = coco_labels(root, tmp_path / CACHE)
    assert all_shown(task) == (named(TRAIN), named(VAL))
    assert (task.classes, len(task.validation.images)) == (("person", "dog"), 3)
    assert not task.train.unjudged.any()
    assert task.test.images.rgb(0).shape == (3, 10, 20)
    text = task.notes
    assert (
        "instances_train2017.json: 3 images have no annotation and show no class: 000.jpg, 004.jpg, 008.jpg"
        in text
    )
    assert (
        f"instances_train2017.json: 1 images of {root / 'train2017'} are not listed: 999.jpg"
        in text
    )
    assert "COCO: 3 of 12 images of train are set aside to choose on" in text


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ("annotations/instances_train2017.json", "annotations/instances_train*.json is not there"),
        ("val2017", "val2017/ is not there"),
    ],
)
def test_missing_coco_file_error_shows_the_layout(tmp_path: Path, lost: str, text: str) -> None:
    path = coco_tree(tmp_path) / lost
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(ValueError, match="does not hold the task") as error:
        coco_labels(tmp_path, tmp_path / CACHE)
    assert text in str(error.value)
    assert (
        "expected are annotations/instances_train2017.json, annotations/instances_val2017.json"
        in str(error.value)
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda c: c["annotations"][0].update(image_id=77),
            "annotations name image ids that it does not list: 77",
        ),
        (
            lambda c: c["annotations"][0].update(category_id=3),
            "annotations name category ids that it does not list: 3",
        ),
        (
            lambda c: c["images"][0].update(file_name="x.jpg"),
            "lists 1 images that are not in .*train2017: x.jpg",
        ),
        (
            lambda c: c["images"][0].update(file_name="../val2017/100.jpg"),
            "lists 1 images that are not in",
        ),
        (lambda c: c["images"][0].update(id=1), "image ids occur twice: 1"),
        (lambda c: c["categories"][0].update(id=9), "category ids occur twice: 9"),
        (
            lambda c: c["categories"][1].update(name="cat"),
            "train and val have other categories: .* cat, dog",
        ),
        (lambda c: c.update(images=[], annotations=[]), "holds no image"),
        (lambda c: c.pop("categories"), "missing required field `categories`"),
        (lambda c: c.update(annotations=[]), "COCO: no image of the train part shows any class"),
        (lambda c: c["images"][0].update(id="one"), "Expected `int`, got `str`"),
    ],
)
def test_inconsistent_coco_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        coco_labels(coco_tree(tmp_path, change), tmp_path / CACHE)


@pytest.mark.parametrize("content", ["{", "[" * 200_000, "\ud800"])
def test_invalid_json_is_refused_with_the_file_name(tmp_path: Path, content: str) -> None:
    path = coco_tree(tmp_path) / "annotations" / "instances_train2017.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"instances_train2017\.json: "):
        coco_labels(tmp_path, tmp_path / CACHE)


def test_broken_image_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = coco_tree(tmp_path)
    (root / "val2017" / "101.jpg").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"COCO test: 1 of 3 images cannot be read .*101\.jpg: .*nothing is scored"
    ):
        coco_labels(root, tmp_path / CACHE)
    monkeypatch.setattr(image_sources, "MAX_UNREADABLE_SHARE", 0.5)
    task = coco_labels(root, tmp_path / CACHE)
    assert shown_by(task.test, task.classes) == {
        name: of for name, of in named(VAL).items() if name != "101"
    }
    assert any("101.jpg" in note and note.endswith("they are left out") for note in task.notes)


# By image, by class: whether the object is difficult, in the order of the file.
VOC_TRAIN = {
    f"2008_{name}": [("person" if one == 7 else "dog", False) for one in sorted(of)]
    for name, of in TRAIN.items()
}
VOC_TRAIN |= {
    "2008_200": [("dog", True), ("person", False), ("dog", True)],
    "2008_201": [("dog", True), ("dog", False)],
}
VOC_VAL = {
    f"2008_{name}": [("person" if one == 7 else "dog", False) for one in of]
    for name, of in VAL.items()
}


def annotation(objects: list[tuple[str, bool]]) -> str:
    inner = "".join(
        f"<object><name>{name}</name><part><name>head</name></part><difficult>{int(difficult)}</difficult></object>"
        for name, difficult in objects
    )
    return f"<?xml version='1.0'?>\n<annotation><filename>x.jpg</filename>{inner}</annotation>\n"


def voc_tree(
    root: Path, *, lists: bool = True, annotations: bool = True, test: bool = False
) -> Path:
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (root / "Annotations").mkdir()
    splits = {"train": VOC_TRAIN, "val": VOC_VAL} | ({"test": VOC_VAL} if test else {})
    for split, shown in splits.items():
        (main / f"{split}.txt").write_text("".join(f"{name}\n" for name in shown))
        for name, objects in shown.items():
            make_image(root / "JPEGImages" / f"{name}.jpg")
            if annotations:
                (root / "Annotations" / f"{name}.xml").write_text(annotation(objects))
        for one in ("dog", "person") if lists else ():
            rows = []
            for name, objects in shown.items():
                hard = [difficult for other, difficult in objects if other == one]
                rows.append(f"{name} {-1 if not hard else 0 if all(hard) else 1:2}\n")
            (main / f"{one}_{split}.txt").write_text("".join(rows))
    return root


@pytest.mark.parametrize("lists", [True, False])
def test_voc_lists_and_annotations_agree(tmp_path: Path, *, lists: bool) -> None:
    task = voc_labels(voc_tree(tmp_path, lists=lists, annotations=not lists), tmp_path / CACHE)
    trained, tested = all_shown(task)
    expected = {f"2008_{name}": of for name, of in named(TRAIN).items()}
    assert trained == expected | {"2008_200": {"person"}, "2008_201": {"dog"}}
    assert tested == {f"2008_{name}": of for name, of in named(VAL).items()}
    assert task.classes == ("dog", "person")
    unjudged = [
        (part.images.files[row].stem, task.classes[column])
        for part in (task.train, task.validation)
        for row, column in np.argwhere(part.unjudged)
        if isinstance(part.images, FileImageSource)
    ]
    assert unjudged == [("2008_200", "dog")]


def test_a_voc_whose_test_has_labels_is_tested_on_it(tmp_path: Path) -> None:
    task = voc_labels(voc_tree(tmp_path, test=True), tmp_path / CACHE)
    sizes = [len(part.images) for part in (task.train, task.validation, task.test)]
    assert sizes == [len(VOC_TRAIN), len(VOC_VAL), len(VOC_VAL)]
    assert (
        "VOC train: 14 images, 3 show no class; 1 pairs of image and class are left out"
        in task.notes[0]
    )


def test_a_difficult_object_counts_neither_for_nor_against(tmp_path: Path) -> None:
    task = voc_labels(voc_tree(tmp_path), tmp_path / CACHE)
    assert not (task.train.labels & task.train.unjudged).any()


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ("ImageSets/Main/val.txt", "ImageSets/Main/val.txt is not there"),
        ("ImageSets/Main/dog_val.txt", "ImageSets/Main/dog_val.txt is not there"),
        ("JPEGImages/2008_100.jpg", "JPEGImages/2008_100.jpg is not there"),
    ],
)
def test_missing_voc_file_error_shows_the_layout(tmp_path: Path, lost: str, text: str) -> None:
    (voc_tree(tmp_path) / lost).unlink()
    with pytest.raises(ValueError, match="does not hold the task") as error:
        voc_labels(tmp_path, tmp_path / CACHE)
    assert text in str(error.value)
    assert str(error.value).endswith("and JPEGImages/*.jpg")


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        (
            "ImageSets/Main/dog_val.txt",
            "2008_100 2\n2008_101 1\n2008_102 1\n",
            "1, 0 or -1, got 2008_100 2",
        ),
        ("ImageSets/Main/dog_val.txt", "2008_100 1\n", "name other images: 2008_101, 2008_102"),
        ("ImageSets/Main/val.txt", "2008_100\n2008_100\n", "names an image twice: 2008_100"),
        ("ImageSets/Main/val.txt", "../../x\n", "named without its folder, got ../../x"),
        ("ImageSets/Main/val.txt", "\udcff", "val.txt: 'utf-8' codec can't decode"),
    ],
)
def test_inconsistent_voc_lists_are_refused(
    tmp_path: Path, file: str, content: str, text: str
) -> None:
    (voc_tree(tmp_path) / file).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=text):
        voc_labels(tmp_path, tmp_path / CACHE)


def test_missing_annotations_and_unknown_classes_are_named(tmp_path: Path) -> None:
    root = voc_tree(tmp_path, lists=False)
    (root / "Annotations" / "2008_100.xml").write_text(annotation([("cat", False)]))
    with pytest.raises(
        ValueError, match="2008_100 of val shows 'cat', which no image of train shows"
    ):
        voc_labels(root, tmp_path / CACHE)
    (root / "Annotations" / "2008_100.xml").unlink()
    with pytest.raises(ValueError, match=r"Annotations/2008_100\.xml is not there"):
        voc_labels(root, tmp_path / CACHE)


BOMB = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {one} '{f'&{other};' * 10}'>"
    for other, one in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"{BOMB}]><annotation>&i;</annotation>", "a document type is refused"),
        ("<!DOCTYPE x SYSTEM 'file:///etc/passwd'><annotation/>", "a document type is refused"),
        (
            "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><annotation>&a;</annotation>",
            "a document type",
        ),
        ("<annotation>&a;</annotation>", "undefined entity"),
        ("<annotation><object>", "no element found"),
        (
            "<annotation><object><difficult>1</difficult></object></annotation>",
            "an object has no name",
        ),
        ("", "no element found"),
        ("<a></b>", "mismatched tag"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_malicious_annotations_are_refused(
    tmp_path: Path, content: str, text: str, encoding: str
) -> None:
    path = tmp_path / "x.xml"
    path.write_text(content, encoding=encoding)
    with pytest.raises(
        ValueError, match=rf"x\.xml: {text}|x\.xml: .*(no element|not well-formed|mismatched tag)"
    ):
        read_objects(path)
    if "DOCTYPE" in content:
        with pytest.raises(ValueError, match="a document type is refused"):
            read_objects(path)


def test_oversized_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = voc_tree(tmp_path, lists=False)
    monkeypatch.setattr(voc_layout, "MAX_ANNOTATION_BYTES", 10)
    with pytest.raises(ValueError, match=r"2008_000\.xml: larger than"):
        voc_labels(root, tmp_path / CACHE)
    monkeypatch.setattr(coco_layout, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"instances_train2017\.json: larger than"):
        coco_labels(coco_tree(tmp_path), tmp_path / CACHE)
    monkeypatch.setattr(voc_layout, "MAX_LIST_BYTES", 10)
    with pytest.raises(ValueError, match=r"train\.txt: larger than"):
        voc_labels(root, tmp_path / CACHE)
