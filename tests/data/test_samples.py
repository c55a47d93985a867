"""The loader is the same for all data sources, and what is refused does not depend on the source."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench.data.samples import open_samples
from bench.data_source import SOURCES, DataSource, SampleRequest, Samples
from bench.train.build import load_data
from tests.data.shards import CAPTIONS, encoded, make_image, write_shard
from tests.data.test_stream import CPU
from tests.small import small

CONTENT = [(f"{number:02}", encoded(make_image(number)), CAPTIONS[number % 6]) for number in range(20)]
CONTENT[3] = ("03", b"no image", "two cats")


class Listed(Samples):
    """Samples in a list."""

    def __init__(self, content: Sequence[tuple[str, bytes, str]], skipped: int = 0) -> None:
        self.content, self.skipped = content, {"lost": skipped}

    def __len__(self) -> int:
        return len(self.content)

    def key(self, row: int) -> str:
        return self.content[row][0]

    def image(self, row: int) -> bytes:
        return self.content[row][1]

    def caption(self, row: int) -> str:
        return self.content[row][2]


class Lists(DataSource):
    """A source whose samples are those that a test gives it."""

    name = accepted = "lists"

    def __init__(self, samples: object) -> None:
        self.samples = samples

    def recognises(self, data: str) -> bool:
        return data == "a list"

    def files(self, _data: str) -> list[Path]:
        return []

    def open(self, _data: str, _request: SampleRequest) -> Samples:
        return self.samples  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["clip", "distill"])
def test_batches_of_equal_samples_are_equal_from_every_source(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(Listed(CONTENT)))
    members = {f"{key}.{suffix}": one for key, *two in CONTENT for suffix, one in zip(("jpg", "txt"), two, strict=True)}
    texts = {name: one.encode() if isinstance(one, str) else one for name, one in members.items()}
    shard = write_shard(tmp_path / "0.tar", texts)
    streams = [load_data(small(method, data=data), CPU, tmp_path) for data in ("a list", str(shard))]
    for k in (1, 0):
        first, second = (stream.batch(k) for stream in streams)
        assert torch.equal(first.images, second.images)
        if method == "clip":
            assert torch.equal(first.target.groups[0], second.target.groups[0])
    assert streams[0].skipped == streams[1].skipped
    assert streams[0].keys(1) == streams[1].keys(1)
    assert all(stream.stats.replaced for stream in streams)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([], r"data=a list: lists are opened as list, expected a Samples of bench\.data_source"),
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


def test_lost_samples_are_no_error_where_a_file_lists_those_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES._objects, "lists", Lists(Listed(CONTENT, 11)))
    (tmp_path / "keys.csv").write_text("key\n05\n07\n")
    stream = load_data(small("clip", data="a list", subset=str(tmp_path / "keys.csv")), CPU, tmp_path)
    assert {*stream.keys(0)} == {"05", "07"}
    assert stream.skipped == {"lost": 11}
