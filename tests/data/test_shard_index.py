"""A shard is read to its end or refused: it is never silently shorter."""

import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.captions.reader import MAX_CAPTION_BYTES
from bench.data.samples import open_samples
from bench.data.sources.tar_shards import TarSamples
from bench.experiment.config import Experiment, change
from bench.labels.vocabulary import explain_vocabulary_mismatch
from tests.data.shards import (
    CAPTIONS,
    img2dataset_members,
    open_shards,
    webdataset_members,
    write_shard,
    write_shards,
)
from tests.small import small

laws = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SMALL = {
    "a.jpg": b"\xff" * 700,
    "a.txt": b"a dog",
    "b.json": b'{"caption": "a cat"}',
    "b.png": b"x",
    "c.cls": b"3",
}


def usable(samples: TarSamples) -> list[tuple[str, str, bytes]]:
    return [
        (samples.key(row), samples.caption(row), samples.image(row)) for row in range(len(samples))
    ]


@pytest.mark.parametrize("layout", [webdataset_members, img2dataset_members])
@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_index_lists_every_sample_with_image_and_caption(
    layout, tar_format: int, tmp_path: Path
) -> None:
    members = {f"{'long/' * 30}{name}": content for name, content in layout(0, 9).items()}
    path = write_shard(tmp_path / "s.tar", members, tar_format)
    found = usable(open_shards(str(path), tmp_path / "cache"))
    images = {
        name.split(".")[0]: content
        for name, content in members.items()
        if not name.endswith(("txt", "json"))
    }
    assert found == [(key, CAPTIONS[row % 6], images[key]) for row, key in enumerate(images)]


@laws
@given(st.data())
def test_truncated_shard_is_an_error_or_unchanged(tmp_path: Path, data: st.DataObject) -> None:
    whole = write_shard(tmp_path / "whole.tar", SMALL)
    content = whole.read_bytes()
    last = content.rstrip(b"\0")
    cut = data.draw(st.integers(0, len(content)) | st.integers(len(last), len(last) + 1200))
    (tmp_path / "cut.tar").write_bytes(content[:cut])
    expected = open_shards(str(whole), tmp_path / "cache")
    try:
        found = open_shards(str(tmp_path / "cut.tar"), tmp_path / f"{cut}")
    except ValueError as error:
        assert str(error).startswith(f"{tmp_path / 'cut.tar'}: ")  # noqa: PT017 - either outcome is right
        assert not [*tmp_path.glob(f"{cut}/*.arrow")]
    else:
        assert found.table.equals(expected.table)
        assert found.summary == expected.summary


@laws
@given(st.data())
def test_bit_flip_drops_no_sample_without_a_warning(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(write_shard(tmp_path / "s.tar", SMALL).read_bytes())
    place = data.draw(st.integers(0, 9 * 512) | st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "s.tar").write_bytes(content)
    try:
        samples = open_shards(str(tmp_path / "s.tar"), tmp_path / "cache")
    except ValueError:
        return
    assert samples.total_with_unusable == 3


def write_twice(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a.jpg"))


REFUSED = {
    "put together": (
        lambda path: path.write_bytes(path.read_bytes() * 2),
        "were archives concatenated",
    ),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "no tar": (lambda path: path.write_bytes(b"a dog" * 1000), "s.tar: "),
    "a member twice": (write_twice, "a.jpg occurs twice"),
    "nothing of use": (
        lambda path: write_shard(path, {"a.jpg": b"1", "b.txt": b"a dog"}),
        r"no sample can be used \(no caption: 1, no image: 1\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_file_that_is_no_shard_is_refused_with_its_name(case: str, tmp_path: Path) -> None:
    spoil, text = REFUSED[case]
    path = write_shard(tmp_path / "s.tar", webdataset_members(0, 2))
    spoil(path)
    with pytest.raises(ValueError, match=text) as error:
        open_samples(small("clip", data=str(path)), tmp_path / "cache")
    assert str(path) in str(error.value)


def test_unusable_samples_are_counted_by_reason(tmp_path: Path) -> None:
    long = {
        "long.jpg": b"1",
        "long.txt": b"x" * (MAX_CAPTION_BYTES + 1),
        "bad.jpg": b"1",
        "bad.json": b"{",
    }
    write_shard(write_shards(tmp_path) / "00003.tar", long)
    shards = open_shards(str(tmp_path), tmp_path / "cache")
    assert shards.skipped == {
        "no image": 1,
        "no caption": 4,
    }
    assert (len(shards), shards.total_with_unusable) == (33, 38)
    assert any("5 of 38 samples are skipped (" in note for note in shards.notes())


def members(
    key: str, image: str = "jpg", caption: str = "txt", text: bytes = b"a dog"
) -> dict[str, bytes]:
    return {f"{key}.{image}": b"1", f"{key}.{caption}": text}


def twelve(key: str = "{}", **kinds: object) -> dict[str, bytes]:
    """The members of twelve samples, more than are tolerated without an image or a caption."""
    return {
        name: content
        for n in range(12)
        for name, content in members(key.format(n), **kinds).items()
    }


LAYOUTS = {
    "apart": (
        dict(sorted(twelve().items(), key=lambda member: member[0].endswith("txt"))),
        r"\(no caption: 12, no image: 12\)",
    ),
    "unread images": (twelve(image="tif"), r"\(no image: 12\)"),
    "unread captions": (
        twelve(caption="cls", text=b"7"),
        "no sample has a caption and no other text with a known name",
    ),
    "lists of numbers": (
        twelve(caption="json", text=b'{"captions": [7]}'),
        "no sample has a caption and no other text",
    ),
    "two other names": (
        twelve(caption="json", text=b'{"titel": "a dog", "inhalt": "a big dog"}'),
        r"no sample has a caption \(there are json\.inhalt, json\.titel\): name one with --caption-fields",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_that_loses_samples_is_refused_with_what_is_there_and_what_to_do(
    layout: str, tmp_path: Path
) -> None:
    content, text = LAYOUTS[layout]
    path = write_shard(tmp_path / "0.tar", content)
    with pytest.raises(ValueError, match=text):
        open_samples(small("clip", data=str(path)), tmp_path / "cache")


def test_image_of_a_sample_is_the_one_with_a_plain_suffix(tmp_path: Path) -> None:
    views = {
        f"{n}.{suffix}": f"{n}.{suffix}".encode()
        for n in range(12)
        for suffix in ("depth.png", "jpg", "txt", "url.txt")
    }
    lone = {"a.front.jpg": b"front", "a.txt": b"a dog"}
    shards = open_shards(str(write_shard(tmp_path / "0.tar", views | lone)), tmp_path / "cache")
    assert (len(shards), shards.skipped) == (13, {})
    assert [shards.image(0), shards.image(12)] == [b"0.jpg", b"front"]


@pytest.mark.parametrize("experiment", [small("distill"), small("clip", text_features="random")])
def test_method_without_captions_trains_on_images_alone(
    experiment: Experiment, tmp_path: Path
) -> None:
    images = (
        {f"{n}.jpg": b"1" for n in range(12)}
        | members("a")
        | {"b.txt": b"no image"}
        | members("c", caption="json")
    )
    experiment = change(experiment, data=str(write_shard(tmp_path / "0.tar", images)))
    shards = open_samples(experiment, tmp_path / "cache")
    assert len(shards) == 14
    assert shards.skipped == {"no image": 1}
    assert not explain_vocabulary_mismatch(experiment)
    with pytest.raises(ValueError, match="no caption: 13"):
        open_samples(small("clip", data=experiment.input.data), tmp_path / "cache")


def test_hidden_files_do_not_split_samples(tmp_path: Path) -> None:
    path = write_shard(
        tmp_path / "s.tar", {"._1.jpg": b"", "1.jpg": b"1", "._1.txt": b"", "1.txt": b"a dog"}
    )
    assert usable(open_shards(str(path), tmp_path / "cache")) == [("1", "a dog", b"1")]


def test_shard_is_indexed_once_and_again_after_replacement(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "s.tar", webdataset_members(0, 2))
    first = open_shards(str(path), tmp_path / "cache")
    written = first.index.stat().st_mtime_ns
    assert open_shards(str(path), tmp_path / "cache").index == first.index
    assert first.index.stat().st_mtime_ns == written
    write_shard(path, webdataset_members(0, 3))
    assert len(open_shards(str(path), tmp_path / "cache")) == 3
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="has become shorter"):
        first.image(1)
