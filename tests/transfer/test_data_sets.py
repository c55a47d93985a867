"""Data sets on disk: split where they are not, and refused in words that name what disagrees."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from bench.subjects import DATA_SETS as NAMES
from bench.subjects import FOLDERS, KINDS, TASKS
from bench.transfer.data_sets import DATA_SETS, channels_first, data_set_task
from bench.transfer.folders import folder_task
from bench.transfer.named_tasks import main
from bench.transfer.pictures import ArrayPictures, FilePictures, UnreadablePicture, shown
from bench.transfer.tasks import Part, Task

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLOURS[colour]).save(path)
    return path


def folders(root: Path, sizes: Mapping[str, int]) -> Path:
    """A folder for each part with so many images of every colour."""
    for part, size in sizes.items():
        for colour in COLOURS:
            for number in range(size):
                picture(root / part / colour / f"{number:03}.png", colour)
    return root


def colours(part: Part) -> list[str]:
    """What each picture shows."""
    return [
        list(COLOURS)[int(part.pictures.rgb(row).flatten(1).float().mean(1).argmax())]
        for row in range(len(part.labels))
    ]


def sizes(task: Task) -> tuple[int, int, int]:
    return len(task.train.labels), len(task.validation.labels), len(task.test.labels)


def test_the_names_that_can_be_typed_are_those_there_are() -> None:
    assert tuple(DATA_SETS) == NAMES
    assert {*TASKS, *FOLDERS, *NAMES} <= {*KINDS}
    assert all(hasattr(datasets, wanted.of) for wanted in DATA_SETS.values())


@pytest.mark.parametrize(
    ("there", "expected", "told"),
    [
        ({"train": 8, "val": 2, "test": 4}, (24, 6, 12), []),
        ({"train": 8, "val": 2}, (18, 6, 6), ["validation"]),
        ({"train": 8, "test": 2}, (18, 6, 6), ["validation"]),
        ({"training": 8, "valid": 2}, (18, 6, 6), ["validation"]),
        ({"train": 20}, (36, 12, 12), ["test", "validation"]),
        ({".": 20}, (36, 12, 12), ["test", "validation"]),
    ],
)
def test_what_is_not_split_is_split_class_by_class_and_told(
    there: dict[str, int], expected: tuple[int, int, int], told: list[str], tmp_path: Path
) -> None:
    task = folder_task("imagefolder", folders(tmp_path / "set", there), tmp_path)
    assert (task.name, task.classes, sizes(task)) == ("set", ("blue", "green", "red"), expected)
    parts = (task.train, task.validation, task.test)
    for part in parts:
        assert np.ptp(np.bincount(part.labels)) == 0
        assert [task.classes[label] for label in part.labels] == colours(part)
    assert [next(word for word in ("test", "validation") if f"no {word} part" in note) for note in task.notes] == told
    again = folder_task("imagefolder", tmp_path / "set", tmp_path)
    assert all(
        np.array_equal(a.labels, b.labels)
        for a, b in zip(parts, (again.train, again.validation, again.test), strict=True)
    )


def test_unreadable_images_are_counted_named_and_left_out(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"train": 60, "val": 5})
    (root / "train/red/001.png").write_bytes(b"nothing")
    task = folder_task("imagefolder", root, tmp_path)
    assert sum(sizes(task)[:2]) == 179
    assert f"1 of 180 images cannot be read ({root}/train/red/001.png: not JPEG, PNG, WEBP)" in task.notes[0]
    kept = next(tmp_path.glob("unreadable-*.json"))
    written = kept.stat().st_mtime_ns
    assert folder_task("imagefolder", root, tmp_path).notes == task.notes
    assert kept.stat().st_mtime_ns == written
    for number in range(2, 5):
        (root / f"train/blue/00{number}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"4 of 180 images cannot be read .* and 1 more.*more than one in a hundred"):
        folder_task("imagefolder", root, tmp_path)
    with pytest.raises(UnreadablePicture, match=r"002.png: no bytes"):
        FilePictures([root / "train/blue/002.png"]).rgb(0)


def without_class(root: Path) -> None:
    shutil.rmtree(root / "val/green")


def one_class(root: Path) -> None:
    for part in ("train", "val"):
        shutil.rmtree(root / part / "green")
        shutil.rmtree(root / part / "blue")


def more_classes(root: Path) -> None:
    picture(root / "val/violet/0.png")


def empty_class(root: Path) -> None:
    for path in (root / "train/green").iterdir():
        path.unlink()


def one_image(root: Path) -> None:
    for number in range(1, 8):
        (root / f"train/green/{number:03}.png").unlink()


def no_train(root: Path) -> None:
    shutil.rmtree(root / "train")


def nothing(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without_class, r"set/train has images of class 'green', .*set/val has none"),
        (more_classes, r"set/val has images of class 'violet', .*set/train has none"),
        (empty_class, r"set/val has images of class 'green', .*set/train has none"),
        (one_class, r"all images are of one class, 'red'"),
        (one_image, r"set/train has 17 images of 3 classes, and fewer than two of class 'green'"),
        (no_train, r"set has val and no train; expected is\n.*set/train/CLASS/IMAGE.jpg"),
        (nothing, r"set has no class folder with images; expected is\n.*set/train/CLASS/IMAGE.jpg"),
    ],
)
def test_what_is_wrong_is_named(spoil: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"train": 8, "val": 2})
    spoil(root)
    with pytest.raises(ValueError, match=f"(?s){told}"):
        folder_task("imagefolder", root, tmp_path)


def test_imagenet_has_a_thousand_classes(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"train": 3, "val": 2})
    with pytest.raises(
        ValueError, match=r"has 3 class folders, ImageNet-1k has 1,000; any other folder is --task imagefolder"
    ):
        folder_task("imagenet", root, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_set_that_is_not_there_is_told_with_its_layout(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)does not hold the train part .* reads\n") as error:
        data_set_task(name, tmp_path, tmp_path)
    assert f"{tmp_path}/{DATA_SETS[name].layout}" in str(error.value)
    assert "download=True" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_check_before_a_scoring_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folders(tmp_path / "set", {"train": 8, "val": 2})
    assert main(str(tmp_path), str(root), "imagefolder") == ""
    assert "no validation part is there; 6 of 24 images" in capsys.readouterr().err
    assert "does not hold the train part of dtd" in main(str(tmp_path), str(root), "dtd")


def dtd(root: Path) -> None:
    for part, per_class in (("train", 4), ("val", 2), ("test", 3)):
        names = [f"{colour}/{colour}_{part}_{n}.jpg" for colour in COLOURS for n in range(per_class)]
        for name in names:
            picture(root / "dtd/dtd/images" / name, name.split("/")[0])
        labels = root / f"dtd/dtd/labels/{part}1.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("\n".join(names))


def pets(root: Path) -> None:
    for part, count in (("trainval", 8), ("test", 3)):
        lines = []
        for label, colour in enumerate(sorted(COLOURS), 1):
            for number in range(count):
                picture(root / f"oxford-iiit-pet/images/{colour}_{part}{number}.jpg", colour)
                lines.append(f"{colour}_{part}{number} {label} 1 1")
        annotations = root / f"oxford-iiit-pet/annotations/{part}.txt"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        annotations.write_text("\n".join(lines))


def food(root: Path) -> None:
    for part, count in (("train", 8), ("test", 3)):
        listed = {c: [f"{c}/{part}{n}" for n in range(count)] for c in COLOURS}
        for colour, names in listed.items():
            for name in names:
                picture(root / f"food-101/images/{name}.jpg", colour)
        meta = root / f"food-101/meta/{part}.json"
        meta.parent.mkdir(parents=True, exist_ok=True)
        meta.write_text(json.dumps(listed))


def country(root: Path) -> None:
    folders(root / "country211", {"train": 4, "valid": 2, "test": 3})


def euro(root: Path) -> None:
    folders(root / "eurosat/2750", {".": 20})


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("dtd", dtd, (12, 6, 9)),
        ("oxfordiiitpet", pets, (18, 6, 9)),
        ("food101", food, (18, 6, 9)),
        ("country211", country, (12, 6, 9)),
        ("eurosat", euro, (36, 12, 12)),
    ],
)
def test_files_are_read_as_torchvision_lists_them(
    name: str, make: Callable[[Path], None], expected: tuple[int, int, int], tmp_path: Path
) -> None:
    make(tmp_path)
    task = data_set_task(name, tmp_path, tmp_path)
    assert sizes(task) == expected
    for part in (task.train, task.validation, task.test):
        assert [task.classes[label].lower() for label in part.labels] == colours(part)
        assert all(batch.shape[1:] == (3, 16, 16) for batch in shown(part.pictures, 16))


def test_labels_that_name_images_which_are_not_there_are_refused(tmp_path: Path) -> None:
    pets(tmp_path)
    (tmp_path / "oxford-iiit-pet/images/red_test1.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"the test part of oxfordiiitpet: 1 of the 9 images .* not there \(.*red_test1.jpg"
    ):
        data_set_task("oxfordiiitpet", tmp_path, tmp_path)


def test_arrays_are_read_whatever_the_order_of_their_axes(tmp_path: Path) -> None:
    """torchvision reads MNIST's files without a digest; CIFAR has colours last, STL-10 and SVHN have them first."""
    raw, draw = tmp_path / "MNIST/raw", np.random.default_rng(0)
    raw.mkdir(parents=True)
    grey = {}
    for part, count in (("train", 40), ("t10k", 10)):
        pixels = grey[part] = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            np.array([0x803, *pixels.shape], ">i4").tobytes() + pixels.tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">i4").tobytes() + labels.tobytes())
    task = data_set_task("mnist", tmp_path, tmp_path)
    assert sizes(task) == (30, 10, 10)
    assert (task.test.pictures.rgb(3) == torch.from_numpy(grey["t10k"][3])).all()
    colour = torch.from_numpy(draw.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))
    assert torch.equal(channels_first(colour), colour)
    assert torch.equal(channels_first(colour.permute(0, 2, 3, 1)), colour)
    assert torch.equal(ArrayPictures(colour).rgb(2), colour[2])
