"""Captions of parquet files are joined to the samples of their keys."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.__main__ import main
from bench.data.captions.choice import parse_caption_choice
from bench.data.sources.tar_shards import TarSamples, open_shards
from tests.data.shards import write_shard

KEYS = [f"{number:03}" for number in range(24)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    (tmp_path / "shards").mkdir()
    for number, keys in enumerate((KEYS[:10], KEYS[10:])):
        members = {f"./{key}.{suffix}": f"{suffix} {key}".encode() for key in keys for suffix in ("jpg", "txt")}
        write_shard(tmp_path / "shards" / f"{number}.tar", members)
    return tmp_path / "shards"


def opened(shards: Path, caption: str) -> TarSamples:
    return open_shards(str(shards), shards.parent / "cache", choice=parse_caption_choice(caption))


def test_joined_captions_equal_a_merge_of_pandas(shards: Path, tmp_path: Path) -> None:
    recaptions = pd.DataFrame({"uid": [KEYS[n] for n in (3, 7, 7, 20, 21)] + ["none"], "llava": [*"abcdef"]})
    recaptions.loc[4, "llava"] = None
    recaptions[:3].to_parquet(tmp_path / "r0.parquet")
    recaptions[3:].to_parquet(tmp_path / "r1.parquet")
    merged = pd.DataFrame({"uid": KEYS}).merge(recaptions, how="left").groupby("uid").llava
    expected = {key: tuple(texts.dropna()) for key, texts in merged}
    found = opened(shards, f"txt:0.5;llava@{tmp_path}/r*.parquet:0.5")
    keys = [found.key(row).removeprefix("./") for row in range(len(found))]
    assert {key: found.texts(row)[1] for row, key in enumerate(keys)} == expected
    assert [found.texts(row)[0] for row in range(len(found))] == [(f"txt {key}",) for key in keys]
    assert any(f"3 of 24 samples have a caption in llava@{tmp_path}/r*.parquet" in note for note in found.notes())


@pytest.mark.parametrize(
    ("table", "name", "texts"),
    [
        ({"key": ["003"], "caption": ["found by its name"]}, "", ("found by its name",)),
        ({"key": ["003"], "llava": [["one", "two"]]}, "llava", ("one", "two")),
        ({"__key__": ["003"], "meta": [{"llava": "in an object"}]}, "meta.llava", ("in an object",)),
        ({"sample_id": ["./003"], "llava": ["with a dot"]}, "llava", ("with a dot",)),
    ],
)
def test_joined_captions_may_be_lists_and_in_objects(
    table: dict[str, list[object]], name: str, texts: tuple[str, ...], shards: Path, tmp_path: Path
) -> None:
    pq.write_table(pa.table(table), tmp_path / "r.parquet")
    assert opened(shards, f"txt;{name}@{tmp_path}/r.parquet").texts(3) == (("txt 003",), texts)


def test_replaced_file_of_joined_captions_is_read_again(shards: Path, tmp_path: Path) -> None:
    for text in ("first", "another"):
        pq.write_table(pa.table({"key": ["003"], "llava": [text]}), tmp_path / "r.parquet")
        assert opened(shards, f"txt;llava@{tmp_path}/r.parquet").texts(3)[1] == (text,)


def test_sample_without_a_joined_caption_is_skipped_where_it_has_no_other(shards: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": KEYS[:20], "llava": KEYS[:20]}), tmp_path / "r.parquet")
    found = opened(shards, f"llava@{tmp_path}/r.parquet")
    assert (len(found), found.skipped) == (20, {f"no key in {tmp_path}/r.parquet": 4})


@pytest.mark.parametrize(
    ("table", "name", "reason"),
    [
        (
            {"id": ["003"], "llava": ["a"]},
            "llava",
            r"r\.parquet: no key column; expected key or .* \(there are id",
        ),
        (
            {"key": ["003"], "llava": ["a"]},
            "lava",
            r"r\.parquet: no column named 'lava'; did you mean 'llava'\?",
        ),
        (
            {"key": ["003"], "url": ["a"]},
            "",
            r"r\.parquet: no column has a name known for captions \(there",
        ),
        ({"key": [["003"]], "llava": ["a"]}, "llava", r"r\.parquet: the key column holds list.*, expected text or"),
        ({"key": ["003"], "llava": [b"\xff"]}, "llava", r"r\.parquet: Invalid UTF8"),
        (
            {"key": ["a", "b", "c", "d"], "llava": ["a"] * 4},
            "llava",
            r"no sample has a caption in llava@.*: keys of samples are \./000, \./001, \./002, keys of .* are a, b, c$",
        ),
    ],
)
def test_file_that_cannot_be_joined_is_refused(
    table: dict[str, list[object]], name: str, reason: str, shards: Path, tmp_path: Path
) -> None:
    pq.write_table(pa.table(table), tmp_path / "r.parquet")
    with pytest.raises(ValueError, match=reason) as error:
        opened(shards, f"txt;{name}@{tmp_path}/r.parquet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "reason"),
    [("none*.parquet", "no file '.*none.*parquet', expected a parquet file or a glob of such"), ("r.csv", "r.csv: ")],
)
def test_file_that_is_not_there_or_no_parquet_is_refused(file: str, reason: str, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("key,llava\n003,a\n")
    with pytest.raises(ValueError, match=reason):
        opened(shards, f"txt;llava@{tmp_path}/{file}")


def test_shard_without_joined_captions_is_labelled_as_the_others(shards: Path, tmp_path: Path) -> None:
    """Stored labels are addressed by the places of samples, so that each shard needs its file."""
    pq.write_table(pa.table({"key": KEYS[:10], "llava": ["a dog"] * 10}), tmp_path / "r.parquet")
    options = ["label", str(shards), "--caption", f"llava@{tmp_path}/r.parquet", "--vocabulary", "pack-synsets"]
    assert main([*options, "--out", str(tmp_path / "labels")]) == 0
    files = [pq.read_table(tmp_path / "labels" / f"{number}.parquet")["labels"].to_pylist() for number in (0, 1)]
    assert [len(labels) for labels in files] == [10, 14]
    assert [any(labels) for labels in files] == [True, False]
    assert main([*options, "--out", str(tmp_path / "part"), "--shards", "2/2"]) == 0


def test_odd_names_and_keys_of_samples_do_not_prevent_an_index(tmp_path: Path) -> None:
    deep = b'{"a":' * 500 + b'{"caption": "deep"}' + b"}" * 500
    odd = b'{"caption": "a dog", "\xff": "x", ' + b",".join(b'"%d": "y"' % n for n in range(3000)) + b"}"
    content = {"0.jpg": b"1", "0.json": odd, "1.jpg": b"1", "1.json": deep}
    path = write_shard(tmp_path / "0.tar", content)
    found = open_shards(str(path), tmp_path / "cache", choice=parse_caption_choice("json.caption"))
    assert (len(found), len(found.found.names)) == (1, 100)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        (
            "json.lava",
            r"no sample has a caption named 'json\.lava'; did you mean 'json\.llava'\? \(there .*json\.url",
        ),
        ("txt:0.5;lava:0.5", r"no sample has a caption named 'lava'"),
        ("text", r"no sample has a caption named 'text'; did you mean 'txt'\? "),
    ],
)
def test_field_that_no_sample_has_is_refused_with_the_nearest_name(caption: str, reason: str, tmp_path: Path) -> None:
    content = {"jpg": b"1", "txt": b"t", "json": json.dumps({"llava": "l", "url": "u", "width": 7}).encode()}
    write_shard(tmp_path / "0.tar", {f"{key}.{suffix}": each for key in KEYS for suffix, each in content.items()})
    with pytest.raises(ValueError, match=reason):
        open_shards(str(tmp_path / "0.tar"), tmp_path / "cache", choice=parse_caption_choice(caption))
