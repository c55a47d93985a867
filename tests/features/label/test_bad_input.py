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
        "likely 'captoin' (there are url, captoin): name it with --caption",
    ),
    "no known column, parquet": ("c.parquet", parquet_of(pa.table({"url": ["x"]})), "(there are url)"),
    "no known column, jsonl": ("c.jsonl", b'{"url": "x", "alt_txt": "a"}\n', "likely 'alt_txt'"),
    "a column of numbers": ("c.parquet", parquet_of(pa.table({"text": [1]})), "holds int64, expected text"),
    "a column of lists": ("c.parquet", parquet_of(pa.table({"text": [[1]]})), "holds list<element: int64>, expected"),
    **{f"an empty file, {suffix}": (f"c.{suffix}", b"", "the file is empty") for suffix in FORMATS},
    "another format": ("c.arrow", b"ARROW1", "no format of captions with the suffix named '.arrow'"),
    "a truncated parquet": ("c.parquet", cut(WHOLE_PARQUET, 0.9), "Parquet magic bytes not found in footer"),
    "a parquet of nonsense": ("c.parquet", b"PAR1" + bytes(100) + b"PAR1", "c.parquet: "),
    "a truncated tar, in a header": ("c.tar", WHOLE_TAR[: 1024 * 40 + 100], "truncated: it has no end mark"),
    "a truncated tar, in a caption": ("c.tar", WHOLE_TAR[: 1024 * 40 + 515], "truncated; copy or download it again"),
    "a tar of nonsense": ("c.tar", b"a dog" * 1000, "c.tar: "),
    "a tar without captions": ("c.tar", tar_of_texts({"1.cls": "3"}), "has a .txt or .json caption (there are .cls"),
    "a tar with other fields": ("c.tar", tar_of_texts({"1.json": '{"captain": "x"}'}), "likely 'captain'"),
    "a truncated gzip": ("c.txt.gz", gzip.compress(b"a dog, \n" * 999)[:-9], "before the end-of-stream marker"),
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


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "parquet"])
def test_damaged_file_is_an_error_or_complete(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tar files that are truncated, and a parquet file with one flipped byte."""
    path = tmp_path / f"c.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"caption": DOGS}), path, write_page_checksum=True)
    else:
        path.write_bytes(gzip.compress(WHOLE_TAR) if suffix == "tar.gz" else WHOLE_TAR)
    intact = path.read_bytes()
    assert label(path) == 0
    expected = names_of(tmp_path / "labels")
    for place in [*range(4, len(intact), len(intact) // 29), len(intact) - 1]:
        path.write_bytes(flipped(intact, place) if suffix == "parquet" else intact[:place])
        if label(path, "--force") == 0:
            assert names_of(tmp_path / "labels") == expected, place
    capsys.readouterr()


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


CAT = '{"text": "a cat"}\n'
ROWS: dict[str, tuple[str, bytes, dict[str, int]]] = {
    "null, parquet": ("c.parquet", parquet_of(pa.table({"text": ["a cat", None, "a cat"]})), {NULL: 1}),
    **{
        f"jsonl, {flaw}": ("c.jsonl", f"{CAT}{line}\n{CAT}".encode(), {flaw: 1})
        for line, flaw in (
            ('{"text": null}', NULL),
            ('{"url": ""}', "no caption"),
            ('{"text": 7}', "text holds a number, expected a text"),
            ("[" * 200_000, "not a JSON object"),
            ('{"text": "\\ud83d"}', NOT_UTF8),
        )
    },
    "a comma too many": ("c.csv", b"url,text\n,a cat\nx,a dog, a cat\n,a cat\n", {"not as many values as columns": 1}),
    **{
        f"tar, {flaw}": ("c.tar", tar_of_texts({"1.txt": "a cat", name: text, "3.txt": "a cat"}), {flaw: 1})
        for name, text, flaw in (
            ("2.jpg", "", "no caption"),
            ("2.json", "{", "not a JSON object"),
            ("2.json", '{"caption": null}', NULL),
        )
    },
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


def test_bad_file_does_not_stop_the_others_and_no_partial_count_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        write_captions(tmp_path / f"{name}.parquet", DOGS)
    (tmp_path / "b.parquet").write_bytes(cut(WHOLE_PARQUET, 0.5))
    assert main(["label", str(tmp_path), "--vocabulary", "pack-synsets", "--out", str(tmp_path / "out")]) == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.parquet", "c.parquet"}
    assert "b.parquet: Parquet magic bytes not found" in capsys.readouterr().err
    assert main(["label", str(tmp_path), "--count-only", "--out", str(tmp_path / "v.json")]) == 2
    assert not (tmp_path / "v.json").exists()


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
