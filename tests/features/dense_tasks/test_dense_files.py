"""ADE20k's and plain layouts: what is read, and what is reported of files that lie or look otherwise."""

import io
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.features.dense_tasks.mask_files import read_ade20k, read_mask_folders
from bench.features.dense_tasks.segmentation import IGNORED, SegmentationTask
from bench.transfer.tasks import image_sources
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


def masks_tree(root: Path) -> Path:
    for part in ("train", "val"):
        for name in NAMES:
            make_image(root / "images" / part / f"{name}.png")
            mask(root / "masks" / part / f"{name}.png", halves(1, 0))
    (root / "classes.txt").write_text("ground\nroof\n")
    return root


TREES: dict[str, tuple[Callable[[Path], Path], Callable[[Path, Path], SegmentationTask]]] = {
    "ade20k": (ade_tree, read_ade20k),
    "masks": (masks_tree, read_mask_folders),
}


@pytest.mark.parametrize(
    ("name", "classes", "row"), [("ade20k", 150, (IGNORED, 149)), ("masks", 2, (1, 0))]
)
def test_segmentation_layouts_are_read(
    name: str, classes: int, row: tuple[int, int], tmp_path: Path
) -> None:
    tree, load = TREES[name]
    task = load(tree(tmp_path), tmp_path / "cache")
    assert (task.name, len(task.classes)) == (name, classes)
    for part in (task.train, task.validation, task.test):
        assert len(part)
        rgb, numbers = part[0]
        assert rgb.shape == (3, HEIGHT, WIDTH)
        assert (numbers[:, 0] == row[0]).all()
        assert (numbers[:, -1] == row[1]).all()


FIRST_MASK = "masks/train/000.png"


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "other size": (
        lambda root: mask(root / FIRST_MASK, halves(1, 0)[:-1]),
        r"masks/train/000.png and its image .*images/train/000.png have other sizes",
    ),
    "unknown class": (
        lambda root: mask(root / FIRST_MASK, halves(1, 7)),
        r"masks/train/000.png has numbers that are no class of the set: 7",
    ),
    "colours": (
        lambda root: make_image(root / FIRST_MASK),
        r"masks/train/000.png: RGB: a mask has one number per pixel",
    ),
    "no mask": (
        lambda root: (root / FIRST_MASK).unlink(),
        "images/train and masks/train hold other names, such as .*masks/train/000.png",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_inconsistent_files_are_named_before_training(name: str, tmp_path: Path) -> None:
    """And again after a good state was read and cached."""
    read_mask_folders(masks_tree(tmp_path), tmp_path / "cache")
    change, text = CHANGES[name]
    change(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match=text):
            read_mask_folders(tmp_path, tmp_path / "cache")


def bomb(png: bytes) -> bytes:
    """Return an image that says that it has 20,000 pixels a side."""
    header = b"IHDR" + 2 * (20_000).to_bytes(4, "big") + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def encoded(kind: str) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, kind)
    return content.getvalue()


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "bomb": bomb,
    "a program": lambda _: encoded("EPS"),  # which Pillow would hand to Ghostscript
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_broken_pairs_are_reported_and_left_out(
    how: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = masks_tree(tmp_path) / kind / "train" / "000.png"
    broken.write_bytes(BROKEN[how](broken.read_bytes()))
    with pytest.raises(
        ValueError,
        match=rf"1 of \d images cannot be read \(.*{kind}/train/000.png: .*one in a hundred",
    ):
        read_mask_folders(tmp_path, tmp_path / "cache")
    monkeypatch.setattr(image_sources, "MAX_UNREADABLE_SHARE", 0.5)
    task = read_mask_folders(tmp_path, tmp_path / "cache")
    assert len(task.train) + len(task.validation) == len(NAMES) - 1
    assert [f"{kind}/train/000.png" in note and "left out" in note for note in task.notes] == [True]
    read_all(task)


def test_reduced_class_list_invalidates_the_mask_cache(tmp_path: Path) -> None:
    for path in (masks_tree(tmp_path) / "masks" / "train").iterdir():
        mask(path, halves(2, 0))
    (tmp_path / "classes.txt").write_text("ground\nroof\ntree\n")
    read_mask_folders(tmp_path, tmp_path / "cache")
    (tmp_path / "classes.txt").write_text("ground\nroof\n")
    with pytest.raises(ValueError, match="numbers that are no class of the set: 2"):
        read_mask_folders(tmp_path, tmp_path / "cache")


def read_all(task: SegmentationTask) -> None:
    for part in (task.train, task.validation, task.test):
        for row in range(len(part)):
            part[row]
