"""Class folders and tars are tasks: what is written is read, missing parts are held out, and what is wrong is named."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data.decoding import decode_image
from bench.data.manifest import PACK
from bench.transfer.named_tasks import require_openable_towers_and_tasks
from bench.transfer.tasks.file_tasks import load_file_task
from bench.transfer.tasks.image_sources import EncodedImageSource
from tests.data.shards import write_shard
from tests.transfer.trees import colours, encode, folders, sizes, tars


@pytest.mark.parametrize("make", [folders, tars])
@pytest.mark.parametrize(
    ("present", "expected", "held_out"),
    [
        ({"train": 8, "val": 2, "test": 4}, (24, 6, 12), []),
        ({"train": 8, "test": 2}, (18, 6, 6), ["validation"]),
        ({"train": 20}, (36, 12, 12), ["test", "validation"]),
        ({".": 20}, (36, 12, 12), ["test", "validation"]),
    ],
)
def test_missing_parts_are_held_out_by_class_and_reported(
    make: Callable[..., Path],
    present: dict[str, int],
    expected: tuple[int, int, int],
    held_out: list[str],
    tmp_path: Path,
) -> None:
    task = load_file_task("folder", make(tmp_path / "set", present), tmp_path)
    assert (task.name, sizes(task)) == ("set", expected)
    again = load_file_task("folder", tmp_path / "set", tmp_path)
    for name in ("train", "validation", "test"):
        part = getattr(task, name)
        assert np.ptp(np.bincount(part.labels)) == 0
        assert [task.classes[label] for label in part.labels] == colours(part)
        assert np.array_equal(part.labels, getattr(again, name).labels)
    assert [note.split()[2] for note in task.notes] == held_out


def test_images_labels_and_order_of_tars_are_those_that_were_written(tmp_path: Path) -> None:
    with tarfile.open(PACK / "transfer/twemoji.tar.gz", "r:gz") as tar:
        members = [member for member in tar if member.name.endswith((".webp", ".png"))][:48]
        images = [tar.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    labels = [(7 * number) % 4 for number in range(48)]
    root = tmp_path / "pack"
    places = {"train": (0, 24), "val": (24, 36), "test": (36, 48)}
    for part, (first, last) in places.items():
        (root / part).mkdir(parents=True)
        for shard, index in enumerate(range(first, last)):  # 10.tar comes after 9.tar
            suffix = "png" if images[index].startswith(b"\x89PNG") else "webp"
            written = {"s.cls": b"%d\n" % labels[index], f"s.{suffix}": images[index]}
            write_shard(root / part / f"{shard}.tar", written)
    (root / "classnames.txt").write_text("a\nb b\na\nd\n")
    task = load_file_task("folder", root, tmp_path)
    assert task.classes == ("a", "b b", "a", "d")
    parts = (task.train, task.validation, task.test)
    for (first, last), part in zip(places.values(), parts, strict=True):
        assert part.labels.tolist() == labels[first:last]
        for row, encoded in enumerate(images[first:last]):
            assert part.images.rgb(row).equal(decode_image(encoded))


def test_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    path = tmp_path / "002.png"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"002.png: no bytes"):
        EncodedImageSource([path]).rgb(0)
    path.write_bytes(b"head" + b"nothing")
    with pytest.raises(ValueError, match=r"002.png, byte 4: not JPEG, PNG, WEBP, GIF"):
        EncodedImageSource([path], np.array([[4, 7]])).rgb(0)


def leave_one_image(root: Path) -> None:
    for number in range(1, 8):
        (root / f"train/green/{number:03}.png").unlink()


def empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda root: shutil.rmtree(root / "val/green"), "the test part has no image of 'green'"),
        (leave_one_image, "the train part has no image of 'green'; every part needs every class"),
        (empty, "set has images of 0 classes; expected is train/CLASS/IMAGE.jpg"),
        (
            lambda root: (root / "train").rename(root / "test"),
            "set has the parts validation and test, and no train part",
        ),
    ],
)
def test_invalid_folders_are_refused_with_the_reason(
    spoil: Callable[[Path], object], text: str, tmp_path: Path
) -> None:
    root = folders(tmp_path / "set", {"train": 8, "val": 2})
    spoil(root)
    with pytest.raises(ValueError, match=text):
        load_file_task("folder", root, tmp_path)


def shard_of(**members: bytes) -> Callable[[Path], object]:
    """Replace a shard by one with these members of a sample."""
    named = {f"s1.{suffix}": content for suffix, content in members.items()}
    return lambda root: write_shard(root / "train/1.tar", named)


RED = encode("red", "webp")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            lambda root: (root / "classnames.txt").write_text("red\ngreen\n"),
            r"train/0.tar: s0000002.cls is 2, and classnames.txt has 2 classes",
        ),
        (
            lambda root: (root / "train/2.tar").unlink(),
            r"train/nshards.txt says 3 shards, and 2 are there",
        ),
        (shard_of(webp=RED), r"train/1.tar: sample s1 has no image or no .cls member"),
        (shard_of(cls=b"1"), r"train/1.tar: sample s1 has no image or no .cls member"),
        (shard_of(cls=b"-1", webp=RED), r"train/1.tar: s1.cls is -1"),
    ],
)
def test_invalid_tars_are_refused_with_the_reason(
    spoil: Callable[[Path], object], text: str, tmp_path: Path
) -> None:
    root = tars(tmp_path / "set", {"train": 8, "test": 4})
    spoil(root)
    with pytest.raises((ValueError, OSError), match=text) as error:
        load_file_task("folder", root, tmp_path)
    assert "\n" not in str(error.value)


def test_named_set_is_read_from_its_folder_or_from_the_root(tmp_path: Path) -> None:
    root = tars(tmp_path / "wds_mnist", {"train": 8, "test": 4})
    for place in (root, tmp_path):
        task = load_file_task("wds_mnist", place, tmp_path)
        assert (task.name, sizes(task)) == ("wds_mnist", (18, 6, 12))


def test_a_task_that_cannot_be_opened_is_an_error_before_the_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(tmp_path / "set", {"train": 8, "val": 2})
    require_openable_towers_and_tasks(tmp_path, str(root), [], ["folder"])
    assert "no validation part is there; 6 images" in capsys.readouterr().err
    shutil.rmtree(root / "train/red")
    with pytest.raises(ValueError, match="has no image of 'red'"):
        require_openable_towers_and_tasks(tmp_path, str(root), [], ["folder"])
