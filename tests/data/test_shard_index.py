"""A shard is read to its end or refused: it is never silently shorter."""

import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.captions.batches import MAX_CAPTION_BYTES
from bench.data.captions.choice import FOUND_BY_NAME, parse_caption_choice
from bench.data.paths import digest_file_excerpts
from bench.data.sample_index import read_index
from bench.data.samples import data_files, open_samples
from bench.data.shards import facts
from bench.data.shards.facts import compute_facts, read_manifest, write_manifest
from bench.data.sources.tar_shards import TarSamples, TarShards, open_shards
from bench.experiment.config import Experiment, change
from bench.interfaces.data_source import SampleRequest
from bench.labels.vocabulary import vocabulary_mismatch
from tests.data.shards import (
    CAPTIONS,
    encode_image,
    img2dataset_members,
    make_image,
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
REQUEST = SampleRequest(cache=Path(), captions=FOUND_BY_NAME)
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


def test_shards_of_webdatasets_writer_are_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip(
        "webdataset", reason="webdataset is not needed to read its shards"
    )
    with webdataset.ShardWriter(f"{tmp_path}/%05d.tar", maxcount=4, verbose=0) as writer:
        for number in range(10):
            writer.write(
                {
                    "__key__": f"k{number}",
                    "jpg": encode_image(make_image(number)),
                    "txt": CAPTIONS[number % 6],
                }
            )
    found = usable(open_shards(str(tmp_path), tmp_path / "cache"))
    assert found == [
        (f"k{number}", CAPTIONS[number % 6], encode_image(make_image(number)))
        for number in range(10)
    ]


@laws
@given(st.data())
def test_truncated_shard_is_an_error_or_unchanged(tmp_path: Path, data: st.DataObject) -> None:
    whole = write_shard(tmp_path / "whole.tar", SMALL)
    content = whole.read_bytes()
    last = content.rstrip(b"\0")
    cut = data.draw(st.integers(0, len(content)) | st.integers(len(last), len(last) + 1200))
    (tmp_path / "cut.tar").write_bytes(content[:cut])
    TarShards().write_index(whole, tmp_path / "whole.arrow", REQUEST)
    try:
        TarShards().write_index(tmp_path / "cut.tar", tmp_path / f"{cut}.arrow", REQUEST)
    except ValueError as error:
        assert str(error).startswith(f"{tmp_path / 'cut.tar'}: ")  # noqa: PT017 - either outcome is right
        assert not (tmp_path / f"{cut}.arrow").exists()
    else:
        assert read_index(tmp_path / f"{cut}.arrow")[0].equals(
            read_index(tmp_path / "whole.arrow")[0]
        )
        assert read_index(tmp_path / f"{cut}.arrow")[1] == read_index(tmp_path / "whole.arrow")[1]


@laws
@given(st.data())
def test_bit_flip_drops_no_sample_without_a_warning(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(write_shard(tmp_path / "s.tar", SMALL).read_bytes())
    place = data.draw(st.integers(0, 9 * 512) | st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "s.tar").write_bytes(content)
    try:
        TarShards().write_index(tmp_path / "s.tar", tmp_path / "s.arrow", REQUEST)
    except ValueError:
        return
    read_index.cache_clear()
    assert read_index(tmp_path / "s.arrow")[1].samples == 3


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
        "no caption": 1,
        "the caption is null": 1,
        "the caption is longer than 4 MiB": 1,
        "not a JSON object": 1,
    }
    assert (len(shards), shards.total) == (33, 38)
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
        r"\(no caption: 12, no image: 12\); .*; members of a sample are adjacent and in one folder \(tar --sort=name\)",
    ),
    "names with one beginning": (
        twelve("IMG.{}.1200x800"),
        r"a name with several dots: 11.*its key ends at the first dot",
    ),
    "a merged sample among others": (
        twelve() | twelve("IMG.{}.1200x800"),
        r"a name with several dots: 11.*list the keys to use: --set subset=FILE.csv",
    ),
    "a pair within a pair": (
        {
            name: content
            for n in range(12)
            for name, content in (members(f"{n}") | members(f"{n}.b")).items()
        },
        "a name with several dots: 12",
    ),
    "unread images": (
        twelve(image="tif") | members("a", image="avif"),
        r"in \.tif, which is not read: 12\); images are read from \.jpg, ",
    ),
    "unread captions": (
        twelve(caption="cap"),
        r"\(no caption: 12\); .*captions from \.txt, or from a text of a JSON",
    ),
    "lists of numbers": (
        twelve(caption="json", text=b'{"captions": [7]}'),
        r"\(captions is a list without a text: 12\)",
    ),
    "another name": (
        twelve(caption="json", text=b'{"beschreibung": "a dog"}'),
        r"0\.tar: no column has a name known for captions \(there are beschreibung\): name it with --caption",
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


def test_further_views_of_a_sample_are_no_lost_samples(tmp_path: Path) -> None:
    views = {
        name: b"1"
        for n in range(12)
        for name in (f"{n}.jpg", f"{n}.txt", f"{n}.depth.png", f"{n}.url.txt")
    }
    shards = open_samples(
        small("clip", data=str(write_shard(tmp_path / "0.tar", views))), tmp_path / "cache"
    )
    assert (len(shards), shards.skipped) == (12, {})


def test_samples_lost_to_several_dots_are_counted_as_samples_that_cannot_be_used(
    tmp_path: Path,
) -> None:
    path = write_shard(tmp_path / "0.tar", twelve("IMG.{}"))
    shards = open_shards(str(path), tmp_path / "cache")
    assert (len(shards), shards.total, shards.skipped) == (1, 12, {"a name with several dots": 11})
    with pytest.raises(ValueError, match="11 of 12 samples cannot be used"):
        open_samples(small("clip", data=str(path)), tmp_path / "cache")


@pytest.mark.parametrize("caption", [None, "text", "json.text"])
def test_sample_of_several_views_has_the_image_and_the_caption_of_one(
    caption: str | None, tmp_path: Path
) -> None:
    views = {
        f"a.{n}.{suffix}": f'{{"text": "{n}"}}'.encode()
        for n in range(3)
        for suffix in ("json", "jpg")
    }
    lone = {"b.jpg": b"1", "b.side.json": b'{"text": "side"}'}
    path = write_shard(tmp_path / "0.tar", views | lone)
    samples = open_shards(str(path), tmp_path / "cache", choice=parse_caption_choice(caption))
    assert [samples.caption(row) for row in range(2)] == ["0", "side"]
    assert samples.image(0) == views["a.0.jpg"]


@pytest.mark.parametrize("experiment", [small("distill"), small("clip", text_features="stored")])
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
    assert (shards.skipped, shards.empty_captions) == ({"no image": 1}, 0)
    assert not vocabulary_mismatch(experiment)
    with pytest.raises(ValueError, match="no caption: 12"):
        open_samples(small("clip", data=experiment.input.data), tmp_path / "cache")


def test_method_without_captions_sees_the_images_of_the_others_where_they_are_not_refused(
    tmp_path: Path,
) -> None:
    path = write_shard(tmp_path / "0.tar", twelve() | {"a.jpg": b"1"})
    for method in ("clip", "distill"):
        shards = open_samples(small(method, data=str(path)), tmp_path / "cache")
        assert (len(shards), shards.skipped) == (12, {"no caption": 1})


def test_gigabyte_of_zeros_after_the_end_mark_takes_little_time(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "s.tar", members("a"))
    os.truncate(path, 2**30)
    started = time.process_time()
    assert len(open_shards(str(path), tmp_path / "cache")) == 1
    assert time.process_time() - started < 10


def test_hidden_files_do_not_split_samples(tmp_path: Path) -> None:
    path = write_shard(
        tmp_path / "s.tar", {"._1.jpg": b"", "1.jpg": b"1", "._1.txt": b"", "1.txt": b"a dog"}
    )
    assert usable(open_shards(str(path), tmp_path / "cache")) == [("1", "a dog", b"1")]


def test_shard_is_indexed_once_and_again_after_replacement(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "s.tar", webdataset_members(0, 2))
    first = open_shards(str(path), tmp_path / "cache")
    written = first.indexes[0].stat().st_mtime_ns
    assert open_shards(str(path), tmp_path / "cache").indexes == first.indexes
    assert first.indexes[0].stat().st_mtime_ns == written
    write_shard(path, webdataset_members(0, 3))
    assert len(open_shards(str(path), tmp_path / "cache")) == 3
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match="has become shorter"):
        first.image(1)


@pytest.mark.parametrize(
    ("names", "data", "text"),
    [
        (
            ["a.tar.gz"],
            "",
            r"a\.tar\.gz: a compressed shard has no random access; decompress it with: gunzip",
        ),
        (["a.tgz", "b.tar"], "", r"a\.tgz: a compressed shard"),
        (
            ["a.csv"],
            "",
            r"no data source reads 1 file \(\.csv\) \(.*a\.csv: no column has a name known for images \(there are none",
        ),
        (
            [*(f"{n}.jpg" for n in range(9)), *(f"{n}.cap" for n in range(3)), "a", ".hidden"],
            "",
            r"no data source reads 13 files \(\.cap, \.jpg, without a suffix\); accepted is pack",
        ),
        ([], "b.tar", r"no file, folder or glob '.*b\.tar'; accepted is pack"),
        ([], "pipe:cat b.tar", "data=pipe:cat b.tar: no file, folder or glob 'pipe:cat b.tar'"),
        ([], "*.tar", r"there is no file; accepted is pack"),
    ],
)
def test_data_that_no_source_reads_is_refused_with_what_is_accepted(
    names: list[str], data: str, text: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=text):
        data_files(data if ":" in data else str(tmp_path / data))


def test_modified_listed_shard_is_verified_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flip between what an index's name is made of, in a shard that is indexed, changes its times alone."""
    members = {
        "a.jpg": encode_image(make_image(0)),
        "a.txt": b"a dog",
        "b.jpg": bytes(2**20),
        "b.txt": b"a cat",
    }
    (tmp_path / "data").mkdir()
    path, cache = write_shard(tmp_path / "data" / "0.tar", members), tmp_path / "cache"
    write_manifest(path.parent, {path.name: compute_facts(path)})
    first, digest = open_shards(str(path), cache), digest_file_excerpts(path)
    read = []
    monkeypatch.setattr(
        facts, "compute_facts", lambda path: read.append(path) or compute_facts(path)
    )
    assert open_shards(str(path), cache).indexes == first.indexes
    assert not read
    time.sleep(0.02)  # that the file system's clock may not advance
    content = path.read_bytes()
    place, times = len(content) // 3, path.stat()
    path.write_bytes(content[:place] + b"\1" + content[place + 1 :])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest_file_excerpts(path) == digest
    for _ in range(2):
        with pytest.raises(ValueError, match=r"0\.tar differs from .*manifest\.json: sha256: "):
            open_shards(str(path), cache)
    path.write_bytes(content)
    read.clear()
    assert open_shards(str(path), cache).indexes == first.indexes
    assert read == [path]
    open_shards(str(path), cache)
    assert read == [path]


def test_training_checks_the_manifest(tmp_path: Path) -> None:
    folder, cache = write_shards(tmp_path / "data"), tmp_path / "cache"
    assert any("unverified" in note for note in open_shards(str(folder), cache).notes())
    facts = {
        path.name: compute_facts(path, lambda _: None) for path in sorted(folder.glob("*.tar"))
    }
    write_manifest(folder, facts)
    assert read_manifest(folder).shards == facts
    shards = open_shards(str(folder / "*.tar"), cache)
    assert not any("unverified" in note for note in shards.notes())
    assert sum(each.samples for each in facts.values()) == shards.total == 36

    (folder / "00001.tar").rename(tmp_path / "away.tar")
    for data in (folder, folder / "*.tar"):
        with pytest.raises(ValueError, match=r"00001\.tar is missing, .* lists it"):
            open_shards(str(data), cache)
    assert len(open_shards(str(folder / "00000.tar"), cache).paths) == 1  # not asked for
    write_shard(folder / "00001.tar", img2dataset_members(12, 6))
    with pytest.raises(ValueError, match=r"00001\.tar differs from .*: bytes: "):
        open_shards(str(folder), cache)
    (tmp_path / "away.tar").rename(folder / "00001.tar")
    write_shard(folder / "00003.tar", webdataset_members(50, 1))
    with pytest.raises(ValueError, match=r"00003\.tar is not in "):
        open_shards(str(folder), cache)
    (folder / "manifest.json").write_text(json.dumps({"format": 2, "shards": {}}))
    with pytest.raises(
        ValueError,
        match=r"has format 2, this version reads format 1: remove it, and write it anew with",
    ):
        open_shards(str(folder), cache)
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "shards": 3}))
    with pytest.raises(ValueError, match=r"manifest\.json: not a manifest of shards"):
        open_shards(str(folder), cache)
