"""torchvision's layouts: images and labels as its classes list them, and what is reported where they disagree."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.transfer.tasks.data_sets import data_set_task, rgb_channels_first
from bench.transfer.tasks.image_sources import ArrayImageSource, eval_batches
from tests.transfer.trees import (
    aircraft,
    colours,
    country,
    digits,
    dtd,
    euro,
    food,
    pets,
    sizes,
    sun,
)


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
        assert all(batch.shape[1:] == (3, 16, 16) for batch in eval_batches(part.images, 16))


def test_labels_that_name_images_which_are_not_there_are_refused(tmp_path: Path) -> None:
    pets(tmp_path)
    (tmp_path / "oxford-iiit-pet/images/red_test1.jpg").unlink()
    with pytest.raises(
        ValueError,
        match=r"the test part of oxfordiiitpet in .*: 1 of the 9 images .* not there \(.*red_test1.jpg",
    ):
        data_set_task("oxfordiiitpet", tmp_path, tmp_path)


PETS, MNIST, FOOD, DTD = (
    "oxford-iiit-pet/annotations",
    "MNIST/raw",
    "food-101/meta/test.json",
    "dtd/dtd/labels",
)
GREEN = "green/green_val_0.jpg\ngreen/green_val_1.jpg"
AIRCRAFT = "fgvc-aircraft-2013b/data/images_variant_val.txt"
MAKE = {
    "fgvcaircraft": aircraft,
    "sun397": sun,
    "mnist": digits,
    "oxfordiiitpet": pets,
    "food101": food,
    "dtd": dtd,
}


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "text"),
    [
        (
            "fgvcaircraft",
            AIRCRAFT,
            "red",
            "mauve",
            rf"validation part .* at .*{AIRCRAFT}: 'mauve' is not listed",
        ),
        (
            "sun397",
            "SUN397/ClassName.txt",
            "red",
            "mauve",
            "at .*ClassName.txt: 'red' is not listed",
        ),
        (
            "mnist",
            f"{MNIST}/train-images-idx3-ubyte",
            "\0" * 9,
            "",
            "train part .* at .*train-images.*: RuntimeError: shape",
        ),
        (
            "mnist",
            f"{MNIST}/t10k-labels-idx1-ubyte",
            "\x07",
            "\xc8",
            r"no class: 200 \(labels are 0 to 9",
        ),
        (
            "mnist",
            f"{MNIST}/t10k-labels-idx1-ubyte",
            "\x08\x01",
            "\x08\x55",
            "at .*t10k-labels-idx1-ubyte: AssertionError",
        ),
        (
            "oxfordiiitpet",
            f"{PETS}/test.txt",
            "red_test1 3 1 1",
            "red_test1",
            f"test part .* at .*{PETS}/test.txt: ValueError",
        ),
        (
            "oxfordiiitpet",
            f"{PETS}/test.txt",
            "blue_test1 1",
            "blue_test1 0",
            "test part .* no class: -1",
        ),
        (
            "oxfordiiitpet",
            f"{PETS}/trainval.txt",
            "val1 2",
            "val1 3",
            "several labels for class 'Green'",
        ),
        ("food101", FOOD, "]}", "", "test part .* at .*meta/test.json: JSONDecodeError: Expecting"),
        (
            "food101",
            FOOD,
            '"red":',
            '"mauve":',
            "test part .* other classes .* differ in mauve, red",
        ),
        (
            "dtd",
            f"{DTD}/val1.txt",
            GREEN,
            "red/red_val_0.jpg",
            "validation part .* other classes .* differ in green",
        ),
        (
            "dtd",
            f"{DTD}/test1.txt",
            "green/",
            "",
            "test part .* at .*labels/test1.txt: ValueError: not enough",
        ),
        ("dtd", f"{DTD}/test1.txt", "", "", "has 0 images and 0 labels"),
    ],
)
def test_inconsistent_labels_are_reported_with_data_set_and_root(
    name: str, file: str, old: str, new: str, text: str, tmp_path: Path
) -> None:
    """The last of a text in a file is put for another; or the file is emptied."""
    MAKE[name](tmp_path)
    data_set_task(name, tmp_path, tmp_path)
    content = (tmp_path / file).read_bytes().decode("latin-1")
    assert old in content
    changed = new.join(content.rsplit(old, 1)) if old else ""
    (tmp_path / file).write_bytes(changed.encode("latin-1"))
    with pytest.raises(ValueError, match=text) as error:
        data_set_task(name, tmp_path, tmp_path)
    assert all(word in str(error.value) for word in (name, str(tmp_path)))
    assert "\n" not in str(error.value)


def test_arrays_are_read_in_any_axis_order(tmp_path: Path) -> None:
    """torchvision reads MNIST's files without a digest; CIFAR has colours last, STL-10 and SVHN have them first."""
    digits(tmp_path)
    task = data_set_task("mnist", tmp_path, tmp_path)
    assert sizes(task) == (30, 10, 10)
    assert (task.test.images.rgb(3) == 3).all()
    colour = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    )
    assert torch.equal(rgb_channels_first(colour), colour)
    assert torch.equal(rgb_channels_first(colour.permute(0, 2, 3, 1)), colour)
    assert torch.equal(ArrayImageSource(colour).rgb(2), colour[2])
