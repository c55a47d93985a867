"""Broken input (the table in docs/labels.md) fails with one line of error, or is counted."""

import gzip
import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from shutil import rmtree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.__main__ import main
from bench.labels.vocabulary import read_vocabulary
from tests.data.shards import write_shard
from tests.labels.files import FORMATS, tar_of_texts, write_captions

MISSING = "rows have no caption or one that is too long"
REPAIRED = "captions are not UTF-8"
DOGS = [f"a dog and {number} cats" for number in range(300)]


def label(path: Path, *options: str, vocabulary: str = "pack-synsets") -> int:
    out = str(path.parent / "labels")
    return main(["label", str(path), "--vocabulary", vocabulary, "--out", out, *options])


def names_of(folder: Path) -> list[list[str]]:
    """The labels of the one file that was labelled, in words."""
    names = [label.name for label in read_vocabulary("pack-synsets").labels]
    (path,) = folder.rglob("*.parquet")
    return [
        [names[column] for column in row]
        for row in pq.read_table(path).column("labels").to_pylist()
    ]


def parquet_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, write_page_checksum=True)
    return file.getvalue()


PARQUET = parquet_of(pa.table({"caption": DOGS}))
TAR = tar_of_texts({f"{number}.txt": text for number, text in enumerate(DOGS)})
REFUSED = [
    (
        "c.csv",
        b"captoin,notes\na dog,no cat\n",
        "known for captions (there are captoin, notes): name it with --caption",
    ),
    ("c.parquet", parquet_of(pa.table({"url": ["x"]})), "(there are url)"),
    ("c.jsonl", b'{"url": "x", "alt_txt": "a"}\n', "(there are url, alt_txt)"),
    *((f"c.{suffix}", b"", "the file is empty") for suffix in FORMATS),
    ("c.arrow", b"ARROW1", "no format of captions with the suffix named '.arrow'"),
    ("c.parquet", PARQUET[:-50], "Parquet magic bytes not found in footer"),
    ("c.tar", TAR[: 1024 * 40 + 100], "truncated; copy or download it again"),
    ("c.txt.gz", gzip.compress(b"a dog, \n" * 999)[:-9], "before the end-of-stream marker"),
    ("c.jsonl.gz", b"not compressed", "Not a gzipped file"),
    ("c.csv", b'caption\n"a dog\na cat\n', "unexpected end of data"),
    ("c.jsonl", b"a dog\n", "its first line is no JSON object"),
    ("c.jsonl", b'{"caption": ' + b"[" * 100_000, "nested too deep"),
    ("c.csv", b"caption,caption\na,b\n", "2 columns are named 'caption': rename all but one"),
]


@pytest.mark.parametrize(("name", "content", "text"), REFUSED, ids=range(len(REFUSED)))
def test_unreadable_input_is_one_line_and_leaves_no_file(
    name: str, content: bytes, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert label(tmp_path / name) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert text in error
    assert name in error
    assert not [path for path in (tmp_path / "labels").rglob("*") if path.is_file()]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "parquet"])
def test_damaged_file_is_an_error_or_complete(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tar files that are truncated, and a parquet file with one flipped byte."""
    intact = {"tar": TAR, "tar.gz": gzip.compress(TAR), "parquet": PARQUET}[suffix]
    path = tmp_path / f"c.{suffix}"
    path.write_bytes(intact)
    assert label(path) == 0
    expected = names_of(tmp_path / "labels")
    for place in [*range(4, len(intact), len(intact) // 29), len(intact) - 1]:
        flipped = bytes([intact[place] ^ 255]) + intact[place + 1 :]
        path.write_bytes(intact[:place] + (flipped if suffix == "parquet" else b""))
        rmtree(tmp_path / "labels")
        if label(path) == 0:
            assert names_of(tmp_path / "labels") == expected, place
    capsys.readouterr()


def require_counted(path: Path, labels: list[str], messages: list[str]) -> None:
    """Label a file whose second of three captions is broken."""
    with redirect_stderr(io.StringIO()) as errors:
        assert label(path) == 0
    assert names_of(path.parent / "labels") == [["cat.n.01"], labels, ["cat.n.01"]]
    text = errors.getvalue()
    assert [message for message in (MISSING, REPAIRED) if message in text] == messages


@pytest.mark.parametrize("suffix", ["parquet", "tar", "csv", "jsonl", "txt"])
@pytest.mark.parametrize(
    ("caption", "labels", "messages"),
    [
        (b"caf\xe9, a dog", ["dog.n.01"], [REPAIRED]),
        (b"a \x00 dog", ["dog.n.01"], []),
        (b"dog " * (10 * 2**20 // 4), [], [MISSING]),
        (b"", [], []),
    ],
    ids=["no UTF-8", "NUL", "too long", "empty"],
)
def test_broken_caption_is_counted_and_keeps_its_position(
    caption: bytes, labels: list[str], messages: list[str], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"c.{suffix}"
    captions = [b"a cat", caption, b"a cat"]
    if suffix == "parquet":
        pq.write_table(pa.table({"caption": pa.array(captions, pa.binary())}), path)
    elif suffix == "tar":
        write_shard(path, {f"{row}.txt": text for row, text in enumerate(captions)})
    elif suffix == "jsonl":
        path.write_bytes(
            b"".join(b'{"caption": "%s"}\n' % text.replace(b"\0", b"\\u0000") for text in captions)
        )
    elif suffix == "csv":
        path.write_bytes(b"caption\n" + b"".join(b'"%s"\n' % text for text in captions))
    else:
        path.write_bytes(b"".join(text + b"\n" for text in captions))
    require_counted(path, labels, messages)


CAT = '{"text": "a cat"}'
WITHOUT_CAPTION = [
    *(
        ("c.jsonl", f"{CAT}\n{line}\n{CAT}\n".encode())
        for line in ('{"text": null}', '{"text": 7}', '{"text": "a', "[" * 200_000)
    ),
    *(
        ("c.tar", tar_of_texts({"1.txt": "a cat", name: text, "3.txt": "a cat"}))
        for name, text in (("2.jpg", ""), ("2.json", "{"), ("2.json", '{"caption": null}'))
    ),
    ("c.parquet", parquet_of(pa.table({"text": ["a cat", None, "a cat"]}))),
]


@pytest.mark.parametrize(("name", "content"), WITHOUT_CAPTION, ids=range(len(WITHOUT_CAPTION)))
def test_row_without_caption_has_no_labels_and_is_counted(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    require_counted(tmp_path / name, [], [MISSING])


def test_bad_file_does_not_stop_the_others_and_no_partial_count_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        write_captions(tmp_path / f"{name}.parquet", DOGS)
    (tmp_path / "b.parquet").write_bytes(PARQUET[:-50])
    words = ["label", str(tmp_path), "--out"]
    assert main([*words, str(tmp_path / "out"), "--vocabulary", "pack-synsets"]) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.parquet", "c.parquet"}
    assert "b.parquet: Parquet magic bytes not found" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "v.json"), "--count-only"]) == 2
    assert not (tmp_path / "v.json").exists()


@pytest.mark.parametrize(
    ("rule", "key", "options", "text"),
    [
        ("subword", "320", ["--rule", "corenet"], "is a vocabulary of the rule 'subword'"),
        ("corenet", "n1", [], "labels that the rule 'corenet' never gives: n1"),
        ("cornet", "n2084071", [], "no rule named 'cornet'; did you mean 'corenet'"),
    ],
)
def test_vocabulary_of_another_rule_is_refused(
    rule: str,
    key: str,
    options: list[str],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = [{"key": key, "name": "dog", "count": 1, "captions": 1}]
    document = {"rule": rule, "captions": 1, "labels": labels}
    (tmp_path / "v.json").write_text(json.dumps(document))
    path = write_captions(tmp_path / "c.txt", DOGS)
    assert label(path, *options, vocabulary=str(tmp_path / "v.json")) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "labels").exists()
