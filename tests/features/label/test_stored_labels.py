"""Labels of shards and of other sources are stored, and a training reads them as it would compute them."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.__main__ import main
from bench.console.console import OK
from bench.data.targets import Labels
from tests.data.shards import webdataset_members, write_shard, write_shards
from tests.data.test_shard_stream import are_equal, stream
from tests.test_extensions import run, write_examples, write_zipped_pairs


def test_stored_labels_equal_computed_labels(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shards(tmp_path / "data")
    command = [
        "label",
        str(data / "*.tar"),
        "--vocabulary",
        "pack-synsets",
        "--out",
        str(tmp_path / "labels"),
    ]
    assert main(command) == 0
    computed, stored = (
        stream(data, results, "catlip", **labels)
        for labels in ({}, {"labels": str(tmp_path / "labels")})
    )
    for k in range(4):
        assert isinstance(computed.batch(k).target, Labels)
        assert len(computed.batch(k).target.columns)
        assert are_equal(computed.batch(k), stored.batch(k))
    write_shard(data / "00003.tar", webdataset_members(0, 2))
    with pytest.raises(ValueError, match=r"00003\.parquet is not there"):
        stream(data, results, "catlip", labels=str(tmp_path / "labels")).batch(0)
    capsys.readouterr()


def test_captions_of_a_source_are_counted_and_labelled_as_those_of_files(tmp_path: Path) -> None:
    folder = write_examples(tmp_path)
    data, door = write_zipped_pairs(tmp_path / "data"), ("--extension", "zipped_pairs.py")
    cache, vocabulary, out = str(tmp_path / "cache"), str(tmp_path / "v.json"), tmp_path / "labels"
    for words in (
        ("label", str(data), "--count-only", "--out", vocabulary),
        ("label", str(data), "--vocabulary", vocabulary, "--out", str(out)),
    ):
        returned, text = run(folder, *door, *words, XDG_CACHE_HOME=cache)
        assert returned == OK, text
    (labels,) = out.glob("*.parquet")
    assert pq.read_table(labels, columns=["key"])["key"].to_pylist() == sorted(map(str, range(40)))
