"""Data sets on disk: split where they are not, and refused in words that name what disagrees."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from bench.transfer.families.torchvision_sets import DATA_SETS
from bench.transfer.tasks.data_sets import data_set_task
from bench.transfer.tasks.file_tasks import folder_task
from bench.transfer.tasks.image_sources import FileImageSource, UnreadableImageError
from bench.transfer.tasks.named_tasks import require_openable
from tests.transfer.trees import colours, folders, make_image, sizes


def test_torchvision_has_the_readers_of_the_catalog() -> None:
    assert all(hasattr(datasets, data_set.reader) for data_set in DATA_SETS.values())


@pytest.mark.parametrize(
    ("there", "expected", "text"),
    [
        ({"train": 8, "val": 2, "test": 4}, (24, 6, 12), []),
        ({"train": 8, "val": 2}, (18, 6, 6), ["validation"]),
        ({"train": 8, "test": 2}, (18, 6, 6), ["validation"]),
        ({"training": 8, "valid": 2}, (18, 6, 6), ["validation"]),
        ({"train": 20}, (36, 12, 12), ["test", "validation"]),
        ({".": 20}, (36, 12, 12), ["test", "validation"]),
    ],
)
def test_unsplit_data_is_split_by_class_and_reported(
    there: dict[str, int], expected: tuple[int, int, int], text: list[str], tmp_path: Path
) -> None:
    task = folder_task("imagefolder", folders(tmp_path / "set", there), tmp_path)
    assert (task.name, task.classes, sizes(task)) == ("set", ("blue", "green", "red"), expected)
    parts = (task.train, task.validation, task.test)
    for part in parts:
        assert np.ptp(np.bincount(part.labels)) == 0
        assert [task.classes[label] for label in part.labels] == colours(part)
    assert [
        next(word for word in ("test", "validation") if f"no {word} part" in note)
        for note in task.notes
    ] == text
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
    assert (
        f"1 of 180 images cannot be read ({root}/train/red/001.png: not JPEG, PNG, WEBP, GIF)"
        in task.notes[0]
    )
    kept = next(tmp_path.glob("unreadable-*.json"))
    written = kept.stat().st_mtime_ns
    assert folder_task("imagefolder", root, tmp_path).notes == task.notes
    assert kept.stat().st_mtime_ns == written
    for number in range(2, 5):
        (root / f"train/blue/00{number}.png").write_bytes(b"")
    with pytest.raises(
        ValueError,
        match=r"4 of 180 images cannot be read .* and 1 more.*more than one in a hundred",
    ):
        folder_task("imagefolder", root, tmp_path)
    with pytest.raises(UnreadableImageError, match=r"002.png: no bytes"):
        FileImageSource([root / "train/blue/002.png"]).rgb(0)


def without_class(root: Path) -> None:
    shutil.rmtree(root / "val/green")


def one_class(root: Path) -> None:
    for part in ("train", "val"):
        shutil.rmtree(root / part / "green")
        shutil.rmtree(root / part / "blue")


def more_classes(root: Path) -> None:
    make_image(root / "val/violet/0.png")


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
    ("spoil", "text"),
    [
        (without_class, r"set/val has 4 readable images of 3 classes, and none of class 'green'"),
        (
            more_classes,
            r"set/train has 24 images of 4 classes, and fewer than two of class 'violet'",
        ),
        (empty_class, r"set/train has 16 images of 3 classes, and fewer than two of class 'green'"),
        (one_class, r"all images are of one class, 'red'"),
        (one_image, r"set/train has 17 images of 3 classes, and fewer than two of class 'green'"),
        (no_train, r"set has val and no train; expected is train/CLASS/IMAGE.jpg"),
        (nothing, r"set has no class folder with images; expected is train/CLASS/IMAGE.jpg"),
    ],
)
def test_invalid_data_is_refused_with_the_reason(
    spoil: Callable[[Path], None], text: str, tmp_path: Path
) -> None:
    root = folders(tmp_path / "set", {"train": 8, "val": 2})
    spoil(root)
    with pytest.raises(ValueError, match=text):
        folder_task("imagefolder", root, tmp_path)


def test_imagenet_has_a_thousand_classes(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"train": 3, "val": 2})
    with pytest.raises(
        ValueError,
        match=r"has 3 class folders, ImageNet-1k has 1,000; any other folder is --task imagefolder",
    ):
        folder_task("imagenet", root, tmp_path)


@pytest.mark.parametrize("name", DATA_SETS)
def test_missing_data_set_error_shows_the_layout(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)does not hold the train part .* reads ") as error:
        data_set_task(name, tmp_path, tmp_path)
    assert f"{tmp_path}/{DATA_SETS[name].layout}" in str(error.value)
    assert "download=True" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_task_that_cannot_be_opened_is_an_error_before_the_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(tmp_path / "set", {"train": 8, "val": 2})
    require_openable(tmp_path, str(root), [], ["imagefolder"])
    assert "no validation part is there; 6 of 24 images" in capsys.readouterr().err
    with pytest.raises(ValueError, match="does not hold the train part of dtd"):
        require_openable(tmp_path, str(root), [], ["dtd"])
