"""ADE20k's layout: what is read, and what is reported of files that lie or look otherwise."""

import io
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.features.dense_tasks.mask_files import read_ade20k_segmentation_task
from bench.features.dense_tasks.segmentation import IGNORED, SegmentationTask
from tests.transfer import trees

HEIGHT, WIDTH = 10, 20
NAMES = [f"{number:03}" for number in range(6)]
make_image = partial(trees.make_image, size=(WIDTH, HEIGHT))


def mask(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numbers.astype(np.uint8)).convert("P").save(path)


def halves(left: int, right: int) -> np.ndarray:
    return np.repeat(np.repeat([[left, right]], HEIGHT, 0), WIDTH // 2, 1)


def ade_tree(root: Path) -> Path:
    for part in ("training", "validation"):
        for name in NAMES:
            make_image(root / "images" / part / f"{name}.jpg")
            mask(root / "annotations" / part / f"{name}.png", halves(0, 150))
    return root


def test_ade20k_is_read(tmp_path: Path) -> None:
    task = read_ade20k_segmentation_task(ade_tree(tmp_path), tmp_path / "cache")
    assert (task.name, len(task.classes)) == ("ade20k", 150)
    for part in (task.train, task.validation, task.test):
        assert len(part)
        rgb, numbers = part[0]
        assert rgb.shape == (3, HEIGHT, WIDTH)
        assert (numbers[:, 0] == IGNORED).all()
        assert (numbers[:, -1] == 149).all()


FIRST_IMAGE = "images/training/000.jpg"
FIRST_MASK = "annotations/training/000.png"


def bomb(path: Path) -> None:
    """Make an image say that it has 20,000 pixels a side."""
    png = path.read_bytes()
    header = b"IHDR" + 2 * (20_000).to_bytes(4, "big") + png[24:29]
    path.write_bytes(png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:])


def write_eps(path: Path) -> None:
    """Write a program, which Pillow would hand to Ghostscript."""
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "EPS")
    path.write_bytes(content.getvalue())


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "other size": (
        lambda root: mask(root / FIRST_MASK, halves(1, 0)[:-1]),
        r"annotations/training/000.png and its image .*images/training/000.jpg have other sizes",
    ),
    "unknown class": (
        lambda root: mask(root / FIRST_MASK, halves(1, 151)),
        r"annotations/training/000.png has the number 151, which is no class of the set",
    ),
    "colours": (
        lambda root: make_image(root / FIRST_MASK),
        r"annotations/training/000.png: RGB: a mask has one number per pixel",
    ),
    "no mask": (
        lambda root: (root / FIRST_MASK).unlink(),
        "images/training and annotations/training hold other names, such as .*annotations/training/000.png",
    ),
    "an empty mask": (lambda root: (root / FIRST_MASK).write_bytes(b""), f"{FIRST_MASK}: "),
    "a large mask": (lambda root: bomb(root / FIRST_MASK), f"{FIRST_MASK}: "),
    "a program as a mask": (lambda root: write_eps(root / FIRST_MASK), f"{FIRST_MASK}: "),
    "an empty image": (lambda root: (root / FIRST_IMAGE).write_bytes(b""), f"{FIRST_IMAGE}: "),
}


@pytest.mark.parametrize("name", CHANGES)
def test_file_that_is_damaged_or_does_not_fit_is_named(name: str, tmp_path: Path) -> None:
    change, text = CHANGES[name]
    change(ade_tree(tmp_path))
    with pytest.raises(ValueError, match=text):
        read_all(read_ade20k_segmentation_task(tmp_path, tmp_path / "cache"))


def read_all(task: SegmentationTask) -> None:
    for part in (task.train, task.validation, task.test):
        for row in range(len(part)):
            part[row]
