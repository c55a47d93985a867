"""Each row of the table of broken input in docs/labels.md fails with one line of error, or is counted."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.__main__ import main
from bench.data.captions.batches import NULL, TOO_LONG
from bench.labels.labeller import NOT_UTF8
from bench.labels.vocabulary import Vocabulary, VocabularyLabel, read_vocabulary, write_vocabulary
from tests.data.shards import write_shard
from tests.labels.files import FORMATS, tar_of_texts, write_captions

DOGS = [f"a dog and {number} cats" for number in range(300)]
MEBIBYTE = 2**20


def label(path: Path, *options: str) -> int:
    return main(["label", str(path), "--vocabulary", "pack-synsets", "--out", str(path.parent / "labels"), *options])


def names_of(folder: Path) -> list[list[str]]:
    """The labels of the one file that was labelled, in words."""
    words = [label.name for label in read_vocabulary("pack-synsets").labels]
    (path,) = folder.rglob("*.parquet") if folder.is_dir() else ()
    return [[words[column] for column in row] for row in pq.read_table(path).column("labels").to_pylist()]


def parquet_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


WHOLE_PARQUET = parquet_of(pa.table({"caption": DOGS}))
WHOLE_TAR = tar_of_texts({f"{number}.txt": text for number, text in enumerate(DOGS)})
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "no known column": (
        "c.csv",
        b"url,captoin\nx,a dog\n",
        "known for captions (there are url, captoin): name it with --caption",
    ),
    "no known column, parquet": ("c.parquet", parquet_of(pa.table({"url": ["x"]})), "(there are url)"),
    "no known column, jsonl": ("c.jsonl", b'{"url": "x", "alt_txt": "a"}\n', "(there are url, alt_txt)"),
    "a column of numbers": (
        "c.parquet",
        parquet_of(pa.table({"text": [1]})),
        "column 'text' holds int64, expected text",
    ),
    "a column of lists of numbers": (
        "c.parquet",
        parquet_of(pa.table({"text": [[1]]})),
        "holds list<element: int64>, expected text",
    ),
    **{f"an empty file, {suffix}": (f"c.{suffix}", b"", "the file is empty") for suffix in FORMATS},
    "another format": ("c.arrow", b"ARROW1", "no format of captions with the suffix named '.arrow'"),
    "no format": ("captions", b"a dog\n", "no format of captions with the suffix named ''"),
    "a truncated parquet": ("c.parquet", cut(WHOLE_PARQUET, 0.9), "Parquet magic bytes not found in footer"),
    "a parquet of nonsense": ("c.parquet", b"PAR1" + bytes(100) + b"PAR1", "c.parquet: "),
    "a truncated tar, in a header": (
        "c.tar",
        WHOLE_TAR[: 1024 * 40 + 100],
        "the archive is truncated: it has no end mark",
    ),
    "a truncated tar, between members": (
        "c.tar",
        WHOLE_TAR[: 1024 * 40],
        "the archive is truncated: it has no end mark",
    ),
    "a truncated tar, in a caption": (
        "c.tar",
        WHOLE_TAR[: 1024 * 40 + 515],
        "the archive is truncated; copy or download it again",
    ),
    "a corrupted tar": ("c.tar", flipped(WHOLE_TAR, 1024 * 40 + 3), "the archive is truncated: it has no end mark"),
    "a tar of nonsense": ("c.tar", b"a dog" * 1000, "c.tar: "),
    "a tar without captions": (
        "c.tar",
        tar_of_texts({"1.jpg": "", "1.cls": "3"}),
        "has a .txt or .json caption (there are .cls",
    ),
    "a tar with other fields": ("c.tar", tar_of_texts({"1.json": '{"captain": "x"}'}), "(there are captain)"),
    "a truncated gzip": (
        "c.txt.gz",
        cut(gzip.compress(b"a dog, \n" * 999), 0.9),
        "ended before the end-of-stream marker",
    ),
    "no gzip": ("c.jsonl.gz", b"not compressed", "Not a gzipped file"),
    "UTF-16": ("c.csv", "caption\na dog\n".encode("utf-16"), "the file is UTF-16, expected UTF-8"),
    "a quotation mark left open": ("c.csv", b'caption\n"a dog\na cat\n', "line 3: unexpected end of data"),
    "a first line that is no object": ("c.jsonl", b"a dog\n", "the first line is not a JSON object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unreadable_input_is_one_line_and_leaves_no_file(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, text = REFUSED[case]
    (tmp_path / name).write_bytes(content)
    assert label(tmp_path / name) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert text in errors[0]
    assert name in errors[0]
    assert not [path for path in (tmp_path / "labels").rglob("*") if path.is_file()]


@pytest.mark.parametrize("whole", [WHOLE_TAR, gzip.compress(WHOLE_TAR)], ids=["tar", "tar.gz"])
def test_truncated_tar_never_loses_samples_without_an_error(
    whole: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("c.tar" if whole is WHOLE_TAR else "c.tar.gz")
    for place in [*range(1, len(whole), len(whole) // 29), len(whole) - 1]:
        path.write_bytes(whole[:place])
        if label(path, "--force") == 0:
            assert len(names_of(tmp_path / "labels")) == len(DOGS), place
    capsys.readouterr()


def test_corrupted_parquet_is_an_error_or_complete(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    content = io.BytesIO()
    pq.write_table(pa.table({"caption": DOGS}), content, write_page_checksum=True)
    whole = content.getvalue()
    path.write_bytes(whole)
    assert label(path) == 0
    right = names_of(tmp_path / "labels")
    for place in range(4, len(whole), len(whole) // 29):
        path.write_bytes(flipped(whole, place))
        if label(path, "--force") == 0:
            assert names_of(tmp_path / "labels") == right, place


def rows_in(path: Path, captions: list[bytes | None]) -> Path:
    """Write captions as they are, wrong bytes and all."""
    suffix = path.suffix
    if suffix == ".parquet":
        pq.write_table(pa.table({"caption": pa.array(captions, pa.binary())}), path)
    elif suffix == ".tar":
        write_shard(path, {f"{row}.txt": caption or b"" for row, caption in enumerate(captions)})
    elif suffix == ".jsonl":
        path.write_bytes(b"".join(b'{"caption": "%s"}\n' % (caption or b"") for caption in captions))
    else:
        path.write_bytes(
            b"".join([b"caption\n" if suffix == ".csv" else b"", *((row or b"") + b"\n" for row in captions)])
        )
    return path


COUNTED: dict[str, tuple[bytes, list[str], str | None]] = {
    "invalid UTF-8": (b"caf\xe9, a dog", ["dog.n.01"], NOT_UTF8),
    "a NUL byte": (b"a \x00 dog", ["dog.n.01"], None),
    "a caption of 10 MB": (b"dog " * (10 * MEBIBYTE // 4), [], TOO_LONG),
    "an empty caption": (b"", [], None),
}


@pytest.mark.parametrize("suffix", ["parquet", "tar", "csv", "jsonl", "txt"])
@pytest.mark.parametrize("case", COUNTED)
def test_malformed_row_is_counted_and_keeps_its_position(
    case: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caption, names, flaw = COUNTED[case]
    if suffix == "jsonl":
        caption = caption.replace(b"\x00", b"\\u0000")
    if suffix == "csv":
        caption = b'"' + caption + b'"'
    path = rows_in(tmp_path / f"c.{suffix}", [b"a cat", caption, b"a cat"])
    assert label(path, "--json", str(tmp_path / "figures.json")) == 0
    assert names_of(tmp_path / "labels") == [["cat.n.01"], names, ["cat.n.01"]]
    assert flaws_in(tmp_path / "figures.json") == ({flaw: 1} if flaw else {})
    capsys.readouterr()


def flaws_in(figures: Path) -> dict[str, int]:
    rows: list[dict[str, Any]] = json.loads(figures.read_bytes())["Rows with problems"]["rows"]
    return {row["problem"]: row["rows"] for row in rows}


ROWS: dict[str, tuple[str, bytes, dict[str, int]]] = {
    "null, parquet": ("c.parquet", parquet_of(pa.table({"text": ["a cat", None, "a cat"]})), {NULL: 1}),
    "null, jsonl": ("c.jsonl", b'{"text": "a cat"}\n{"text": null}\n{"text": "a cat"}\n', {NULL: 1}),
    "no field": ("c.jsonl", b'{"text": "a cat"}\n{"url": ""}\n{"text": "a cat"}\n', {"no caption": 1}),
    "no text": (
        "c.jsonl",
        b'{"text": "a cat"}\n{"text": 7}\n{"text": "a cat"}\n',
        {"text holds a number, expected a text": 1},
    ),
    "no JSON": ("c.jsonl", b'{"text": "a cat"}\n{"text": "a\n{"text": "a cat"}\n', {"not a JSON object": 1}),
    "deep JSON": (
        "c.jsonl",
        b'{"text": "a cat"}\n' + b"[" * 200_000 + b'\n{"text": "a cat"}\n',
        {"not a JSON object": 1},
    ),
    "half a pair": ("c.jsonl", b'{"text": "a cat"}\n{"text": "\\ud83d"}\n{"text": "a cat"}\n', {NOT_UTF8: 1}),
    "a comma too many": ("c.csv", b"url,text\n,a cat\nx,a dog, a cat\n,a cat\n", {"not as many values as columns": 1}),
    "no text in a shard": ("c.tar", tar_of_texts({"1.txt": "a cat", "2.jpg": "", "3.txt": "a cat"}), {"no caption": 1}),
    "bad JSON in a shard": (
        "c.tar",
        tar_of_texts({"1.txt": "a cat", "2.json": "{", "3.txt": "a cat"}),
        {"not a JSON object": 1},
    ),
    "null in a shard": (
        "c.tar",
        tar_of_texts({"1.txt": "a cat", "2.json": '{"caption": null}', "3.txt": "a cat"}),
        {NULL: 1},
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_row_without_caption_has_no_labels_and_is_counted(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, flaws = ROWS[case]
    (tmp_path / name).write_bytes(content)
    assert label(tmp_path / name, "--json", str(tmp_path / "figures.json")) == 0
    assert names_of(tmp_path / "labels") == [["cat.n.01"], [], ["cat.n.01"]]
    assert flaws_in(tmp_path / "figures.json") == flaws
    capsys.readouterr()


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        write_captions(tmp_path / f"{name}.parquet", DOGS)
    (tmp_path / "b.parquet").write_bytes(cut(WHOLE_PARQUET, 0.5))
    assert main(["label", str(tmp_path), "--vocabulary", "pack-synsets", "--out", str(tmp_path / "out")]) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.parquet", "c.parquet"}
    assert "b.parquet: Parquet magic bytes not found" in capsys.readouterr().err


def test_partial_count_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_captions(tmp_path / "a.parquet", DOGS)
    (tmp_path / "b.parquet").write_bytes(cut(WHOLE_PARQUET, 0.5))
    assert main(["label", str(tmp_path), "--count-only", "--out", str(tmp_path / "v.json")]) == 2
    assert not (tmp_path / "v.json").exists()
    capsys.readouterr()


def vocabulary(**changes: Any) -> Callable[[Path], None]:
    labels = (VocabularyLabel(**{changes.pop("kind", "synset"): changes.pop("key", "n2084071")}, name="dog", count=1),)
    return lambda path: write_vocabulary(Vocabulary(captions=1, labels=labels, **changes), path)


@pytest.mark.parametrize(
    ("write", "options", "text"),
    [
        (
            vocabulary(rule="subword", kind="subword", key="320"),
            ["--rule", "corenet"],
            "is a vocabulary of the rule 'subword'",
        ),
        (vocabulary(rule="corenet", key="n1"), [], "labels that the rule 'corenet' never gives: n1"),
        (vocabulary(rule="cornet"), [], "no rule named 'cornet'; did you mean 'corenet'"),
        (lambda path: path.write_text("dog\t3\n"), [], "unknown vocabulary format"),
    ],
)
def test_vocabulary_of_another_rule_is_refused(
    write: Callable[[Path], None], options: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "v.json")
    path = write_captions(tmp_path / "c.txt", DOGS)
    arguments = ["label", str(path), "--vocabulary", str(tmp_path / "v.json"), "--out", str(tmp_path / "out")]
    assert main([*arguments, *options]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
