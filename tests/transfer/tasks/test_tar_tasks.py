"""Tars as CLIP_benchmark writes them are tasks: what is written is read, and what disagrees is named."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.data.decoding import decode_image
from bench.data.manifest import PACK
from bench.transfer.families.clip_benchmark_sets import SIZES, PublishedSize
from bench.transfer.tasks import tar_tasks
from bench.transfer.tasks.image_sources import UnreadableImageError
from bench.transfer.tasks.tar_tasks import published_task, tar_task
from bench.transfer.tasks.tasks import SingleLabelTask
from tests.data.shards import write_shard
from tests.transfer.trees import COLOURS, colours, encode, sizes, tars


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tars(tmp_path / "set", {"train": 8, "test": 4})


def pack_samples(count: int) -> list[bytes]:
    """Images of the shipped pack as its shards hold them."""
    with tarfile.open(PACK / "transfer/twemoji.tar.gz", "r:gz") as tar:
        images = (
            tar.extractfile(member) for member in tar if member.name.endswith((".webp", ".png"))
        )
        return [
            file.read() for file, _ in zip(images, range(count), strict=False) if file is not None
        ]


def test_images_labels_and_order_are_those_that_were_written(tmp_path: Path) -> None:
    images, labels = pack_samples(40), [(7 * number) % 4 for number in range(40)]
    suffixes = ["png" if image.startswith(b"\x89PNG") else "webp" for image in images]
    root = tmp_path / "pack"
    for part, first, last in (("train", 0, 24), ("test", 24, 40)):
        (root / part).mkdir(parents=True)
        for shard, start in enumerate(
            range(first, last, 2)
        ):  # twelve shards: 10.tar comes after 9.tar
            members = {}
            for index in (start, start + 1):
                key = f"s{index:07}"
                members |= {
                    f"{key}.cls": b"%d" % labels[index],
                    f"{key}.{suffixes[index]}": images[index],
                }
            write_shard(root / part / f"{shard}.tar", members)
        (root / part / "nshards.txt").write_text(str(len(range(first, last, 2))))
    (root / "classnames.txt").write_text("a\nb b\nc-c\nd\n")
    classes, parts = tar_tasks.open_parts(root, tmp_path)
    assert classes == ["a", "b b", "c-c", "d"]
    for part, first, last in (("train", 0, 24), ("test", 24, 40)):
        assert parts[part].labels.tolist() == labels[first:last]
        for row, encoded in enumerate(images[first:last]):
            assert parts[part].images.rgb(row).equal(decode_image(encoded))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"train": 8, "test": 4}, (18, 6, 12)),
        ({"train": 8, "val": 2, "test": 4}, (24, 6, 12)),
        ({"test": 20}, (36, 12, 12)),
    ],
)
def test_parts_that_are_not_there_are_held_out(
    there: dict[str, int], expected: tuple[int, int, int], tmp_path: Path
) -> None:
    task = tar_task(tars(tmp_path / "set", there), tmp_path)
    assert (task.name, task.classes, sizes(task)) == ("set", tuple(COLOURS), expected)
    for part in (task.train, task.validation, task.test):
        assert [task.classes[label] for label in part.labels] == colours(part)
    assert any("there is no train part" in note for note in task.notes) == ("train" not in there)


def test_class_names_may_repeat_and_templates_lie_beside_the_data(
    root: Path, tmp_path: Path
) -> None:
    (root / "classnames.txt").write_text("missile\nprojectile\nmissile\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    task = tar_task(root, tmp_path)
    assert task.classes == ("missile", "projectile", "missile")
    assert task.templates == str(root / "zeroshot_classification_templates.txt")


def test_unreadable_images_are_counted_named_and_left_out(tmp_path: Path) -> None:
    root = tars(tmp_path / "set", {"train": 60, "test": 5}, per_shard=1000)
    with (root / "train/0.tar").open("rb") as file:
        members = {name: (label, image) for name, label, image in read_members(file)}
    spoiled = {f"{key}.cls": label for key, (label, _) in members.items()}
    spoiled |= {
        f"{key}.webp": image[:30] if key == "s0000007" else image
        for key, (_, image) in members.items()
    }
    write_shard(root / "train/0.tar", dict(sorted(spoiled.items())))
    task = tar_task(root, tmp_path)
    assert sum(sizes(task)[:2]) == 179
    assert f"1 of 180 images cannot be read ({root}/train/0.tar: s0000007: " in task.notes[0]
    with pytest.raises(UnreadableImageError, match=r"0\.tar: s0000007: "):
        tar_tasks.open_parts(root, tmp_path)[1]["train"].images.rgb(7)


def read_members(file) -> list[tuple[str, bytes, bytes]]:  # type: ignore[no-untyped-def]
    with tarfile.open(fileobj=file) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    return [
        (name[:-4], label, content[f"{name[:-4]}.webp"])
        for name, label in content.items()
        if name.endswith("cls")
    ]


def truncate(shard: Path) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2 // 512 * 512])


def shard_of(**members: bytes) -> Callable[[Path], object]:
    """Replace a shard by one with these members of a sample."""
    named = {f"s1.{suffix}": content for suffix, content in members.items()}
    return lambda root: write_shard(root / "train/1.tar", named)


RED = encode("red", "webp")
NO_NAMES = r"set/classnames.txt is missing; expected is classnames.txt, one class per line"
NEGATIVE = r"train/1.tar: s1.cls is -1, and classnames.txt has 3 classes: numbers are 0 to 2"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda root: (root / "classnames.txt").unlink(), NO_NAMES),
        (
            lambda root: (root / "classnames.txt").write_text("red\ngreen\n"),
            r"train/0.tar: s0000002.cls is 2, and classnames.txt has 2 classes: numbers are 0 to 1",
        ),
        (
            lambda root: (root / "classnames.txt").write_text("red\n\nblue\n"),
            r"set/classnames.txt: line 2 is empty",
        ),
        (
            lambda root: [shutil.rmtree(root / part) for part in ("train", "test")],
            r"set has no shards; expected is classnames.txt",
        ),
        (
            lambda root: (root / "train/2.tar").unlink(),
            r"train/nshards.txt says 3 shards, and 2 .tar files are there",
        ),
        (
            lambda root: (root / "train/1.tar").rename(root / "train/3.tar"),
            r"train/nshards.txt says 3 shards, and 1.tar is missing",
        ),
        (
            lambda root: (root / "train/nshards.txt").write_text("many"),
            r"train/nshards.txt says many shards, and 3 .tar files are there",
        ),
        (lambda root: truncate(root / "train/1.tar"), r"train/1.tar: the archive is truncated"),
        (shard_of(webp=RED), r"train/1.tar: sample s1 has no .cls member"),
        (
            shard_of(cls=b"1", txt=b"a"),
            r"train/1.tar: sample s1 has no image \(webp, png, jpg, jpeg\)",
        ),
        (
            shard_of(cls=b"red", webp=RED),
            r"train/1.tar: s1.cls is 'red', expected is the number of a class",
        ),
        (shard_of(cls=b"-1", webp=RED), NEGATIVE),
        (
            lambda root: (root / "train").rename(root / "val"),
            r"set has the parts validation and test and no train part to learn from",
        ),
        (
            lambda root: (root / "dataset_type.txt").write_text("retrieval\n"),
            r"set/dataset_type.txt says retrieval, expected is classification: one class per image",
        ),
    ],
)
def test_invalid_shards_are_refused_with_the_reason(
    spoil: Callable[[Path], object], text: str, root: Path, tmp_path: Path
) -> None:
    spoil(root)
    with pytest.raises(ValueError, match=text) as error:
        tar_task(root, tmp_path)
    assert "\n" not in str(error.value)


def of_size(
    root: Path, cache: Path, size: PublishedSize, monkeypatch: pytest.MonkeyPatch
) -> SingleLabelTask:
    monkeypatch.setitem(SIZES, "wds_mnist", size)
    return published_task("wds_mnist", root, cache)


def test_named_set_has_its_published_size(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = of_size(root, tmp_path, PublishedSize(3, 24, 12), monkeypatch)
    assert (task.name, sizes(task)) == ("wds_mnist", (18, 6, 12))
    assert not any("not checked" in note for note in task.notes)
    text = (
        r"set has 24 training images, wds_mnist is published with 25: name the folder of that data set, or read any "
        r"other with --task webdataset"
    )
    with pytest.raises(ValueError, match=text):
        of_size(root, tmp_path, PublishedSize(3, 25, 12), monkeypatch)
    with pytest.raises(ValueError, match="has 3 classes, wds_mnist is published with 1,000"):
        of_size(root, tmp_path, PublishedSize(1000, 24, 12), monkeypatch)
    with pytest.raises(ValueError, match="has 24 training images, wds_mnist is published with 0"):
        of_size(root, tmp_path, PublishedSize(3, 0, 12), monkeypatch)


def test_root_without_a_named_set_is_reported_with_both_folders(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=rf"neither {tmp_path} nor {tmp_path}/wds_cars has shards; expected is classn",
    ):
        published_task("wds_cars", tmp_path, tmp_path)
