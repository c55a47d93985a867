"""The loader is the same for all data sources, and what is refused does not depend on the source."""

from pathlib import Path

import pytest
import torch

from bench.data.samples import open_samples
from bench.interfaces.data_source import SOURCES
from bench.train.build import open_batch_stream
from tests.data.layouts import SOURCE_LAYOUTS, Sample
from tests.data.listed import Listed, Lists
from tests.data.shards import CAPTIONS, encode_image, make_image, write_shard
from tests.data.test_stream import CPU
from tests.small import small

CONTENT = [
    (f"{number:02}", encode_image(make_image(number)), CAPTIONS[number % 6]) for number in range(20)
]
CONTENT[3] = ("03", b"no image", "two cats")


SAMPLES = [Sample(image, caption) for _, image, caption in CONTENT]


@pytest.mark.parametrize(
    ("method", "workers", "source"),
    [
        *(
            (method, 0, source)
            for method in ("clip", "distill")
            for source in ("lists", *SOURCE_LAYOUTS)
        ),
        *(("clip", 2, source) for source in SOURCE_LAYOUTS),
    ],
)
def test_batches_of_equal_samples_are_equal_from_every_source(
    method: str,
    workers: int,
    source: str,
    tmp_path: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(Listed(CONTENT)))
    data = (
        "a list" if source == "lists" else str(SOURCE_LAYOUTS[source](tmp_path / "data", SAMPLES))
    )
    members = {
        f"{key}.{suffix}": one
        for key, *two in CONTENT
        for suffix, one in zip(("jpg", "txt"), two, strict=True)
    }
    texts = {name: one.encode() if isinstance(one, str) else one for name, one in members.items()}
    shard = str(write_shard(tmp_path / "0.tar", texts))
    pairs = ((shard, 0), (data, workers))
    streams = [
        open_batch_stream(small(method, data=data, workers=workers), CPU, results)
        for data, workers in pairs
    ]
    for k in (1, 0):
        first, second = (stream.batch(k) for stream in streams)
        assert torch.equal(first.images, second.images)
        if method == "clip":
            assert torch.equal(first.target.groups[0], second.target.groups[0])
    assert streams[0].skipped == streams[1].skipped
    assert all(stream.stats.unusable for stream in streams)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (Listed([], 3), r"a list: no sample can be used \(lost: 3\)"),
        (
            Listed(CONTENT, 11),
            r"a list: 11 of 31 samples cannot be used, more than 10% \(lost: 11\); repair the files, or",
        ),
    ],
)
def test_samples_that_cannot_be_used_are_refused(
    samples: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(samples))
    with pytest.raises(ValueError, match=reason):
        open_samples(small("clip", data="a list"), tmp_path)


@pytest.mark.parametrize(
    ("option", "changes"),
    [("--caption-fields", {"caption_fields": "txt"}), ("--image-column", {"image_column": "jpg"})],
)
def test_option_that_a_source_does_not_read_is_refused(
    option: str, changes: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(Listed(CONTENT)))
    reason = f"^a list: the source 'lists' does not read {option}: leave it out$"
    with pytest.raises(ValueError, match=reason):
        open_samples(small("clip", data="a list", **changes), tmp_path)


def test_lost_samples_are_no_error_where_a_file_lists_those_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(Listed(CONTENT, 11)))
    (tmp_path / "keys.csv").write_text("key\n05\n07\n")
    stream = open_batch_stream(
        small("clip", data="a list", subset=str(tmp_path / "keys.csv")), CPU, tmp_path
    )
    assert {*stream.keys(0)} == {"05", "07"}
    assert stream.skipped == {"lost": 11}
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(Listed(CONTENT, 10)))
    assert len(open_samples(small("clip", data="a list"), tmp_path)) == len(CONTENT)
