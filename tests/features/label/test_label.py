"""`python -m bench label`: counts are the same however they are made, and broken input is an error or counted."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.console.console import OK
from bench.experiment.fields import SampleSettings
from bench.labels.counting import count_label_vocabulary
from bench.labels.labeller import LabelTally, get_label_rule, get_labeller, label_and_tally
from bench.labels.vocabulary import Vocabulary, read_vocabulary
from tests.cli.test_names_that_are_not_utf8 import LATIN1
from tests.data.shards import webdataset_members, write_shard
from tests.labels.files import FORMATS, tar_of_texts, write_captions
from tests.test_extensions import run, write_examples, write_zipped_pairs

ROOT = Path(__file__).parents[3]
WORDS = st.lists(
    st.sampled_from(["a", "dog", "cats", "riding", "two", "bicycle", "xyzzy", "!", "日本"]),
    max_size=6,
)
CAPTIONS = st.lists(st.none() | WORDS.map(" ".join), max_size=12)
DOGS = [f"a dog and {number} cats" for number in range(300)]
MISSING = "rows have no caption or one that is too long"
REPAIRED = "captions are not UTF-8"
Count = Callable[..., str]


@pytest.fixture
def count(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Count:
    """A function that runs the command, which writes out/v.json, and returns what it wrote to stderr."""

    def run_label(*words: object, code: int = OK) -> str:
        capsys.readouterr()
        out = tmp_path / "out" / "v.json"
        assert main(["label", *map(str, words), "--out", str(out)]) == code
        assert out.exists() == (code == OK)
        return capsys.readouterr().err

    return run_label


def counts(folder: Path) -> dict[str, int]:
    """The counts of the vocabulary that was written, by word."""
    labels = json.loads((folder / "out" / "v.json").read_bytes())["labels"]
    return {label["name"].partition(".")[0]: label["count"] for label in labels}


def counted(path: Path | str) -> Vocabulary:
    return count_label_vocabulary(SampleSettings(data=str(path)), "corenet")


def binary(captions: list[str | None]) -> pa.BinaryArray:
    return pa.array(captions, pa.string()).cast(pa.binary())


def parquet_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, write_page_checksum=True)
    return file.getvalue()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(CAPTIONS, st.sampled_from([("corenet", "shipped-synsets"), ("subword", "shipped-subwords")]))
def test_labels_are_vocabulary_columns_of_the_rules_labels(
    captions: list[str | None], names: tuple[str, str]
) -> None:
    rule = get_label_rule(names[0])
    labels, tally = label_and_tally(rule, binary(captions))
    column_of = {key: column for column, key in enumerate(read_vocabulary(names[1]).keys)}
    keys = [[rule.keys[label] for label in row] for row in labels.to_pylist()]
    columns = [[column_of[key] for key in row if key in column_of] for row in keys]
    assert get_labeller(*names).find_label_columns([text or "" for text in captions]) == columns
    assert (tally.captions, tally.empty) == (len(captions), keys.count([]))
    assert (tally.missing, tally.counts.sum()) == (captions.count(None), sum(map(len, keys)))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(CAPTIONS, CAPTIONS)
def test_tallies_of_parts_sum_to_the_tally_of_all(
    first: list[str | None], second: list[str | None]
) -> None:
    rule = get_label_rule("corenet")
    total = LabelTally()
    for captions in (first, second):
        total.add(label_and_tally(rule, binary(captions))[1])
    expected = label_and_tally(rule, binary([*first, *second]))[1]
    for name in ("captions", "empty", "missing"):
        assert getattr(total, name) == getattr(expected, name)
    assert total.counts.tolist() == expected.counts.tolist()
    assert total.caption_counts.tolist() == expected.caption_counts.tolist()


def test_every_format_and_number_of_processes_gives_the_same_counts(
    tmp_path: Path, count: Count
) -> None:
    captions = ["a dog", "", "two cats on a house", "xyzzy"] * 5
    files = [write_captions(tmp_path / f"c.{suffix}", captions) for suffix in FORMATS]
    expected = counted(files[0])
    assert all(counted(file) == expected for file in files)
    for workers in (1, 2):
        count(*files[:3], "--workers", workers)
        assert counts(tmp_path) == {"dog": 15, "two": 15, "cat": 15, "house": 15}


def test_captions_of_an_extension_and_of_a_folder_of_tars_are_counted(
    tmp_path: Path, count: Count
) -> None:
    """img2dataset leaves a table of the captions beside each tar file, which is not counted again."""
    folder = write_examples(tmp_path)
    words = ("label", str(write_zipped_pairs(tmp_path / "data")), "--out", str(tmp_path / "v.json"))
    cache = str(tmp_path / "cache")
    code, text = run(folder, "--extension", "zipped_pairs.py", *words, XDG_CACHE_HOME=cache)
    assert code == OK, text
    assert json.loads((tmp_path / "v.json").read_bytes())["captions"] == 40
    write_shard(tmp_path / "tars" / f"{LATIN1}.tar", webdataset_members(0, 20))
    write_captions(tmp_path / "tars" / "0.parquet", DOGS)
    count(tmp_path / "tars")
    assert json.loads((tmp_path / "out" / "v.json").read_bytes())["captions"] == 20


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nowhere.csv", "--out", "v.json"), "nowhere.csv: no file of captions found"),
        (("--out", "v.json"), "no input given"),
        (("c.txt",), "--out is missing"),
        (("c.txt", "--out", "v.json", "--rule", "subwords"), "did you mean 'subword'"),
        (("c.txt", "--out", "v.json", "--min-count", "0"), "--min-count must be from 1 to"),
        (("c.txt", "--out", "v.json", "--min-count", "9"), "occurs 9 times in the captions"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: tuple[str, ...],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_captions(tmp_path / "c.txt", ["a dog"])
    assert main(["label", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "v.json").exists()


def test_labels_of_a_caption_are_shown_and_subwords_are_said_to_be_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", "--try-rule-on", "A dog riding two bicycles"]) == OK
    shown = capsys.readouterr().out
    assert "bicycle.n.01" in shown
    assert "n2084071" in shown
    path = write_captions(tmp_path / "c.txt", ["a dog"])
    words = ["label", str(path), "--rule", "subword", "--out", str(tmp_path / "v.json")]
    assert main(words) == OK
    shown = capsys.readouterr().out
    assert "dog</w>" in shown
    assert "the rows of the embedding table of CLIP's" in shown


def test_synsets_are_counted_without_torch(tmp_path: Path) -> None:
    path = write_captions(tmp_path / "c.txt", ["a dog"])
    code = (
        "import sys; from bench.__main__ import main; "
        "code = main(['label', sys.argv[1], '--out', sys.argv[2]]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "v.json")]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0


PARQUET = parquet_of(pa.table({"caption": DOGS}))
TAR = tar_of_texts({f"{number}.txt": text for number, text in enumerate(DOGS)})
REFUSED = [
    ("c.csv", b"captoin,notes\na dog,no cat\n", "(there are captoin, notes): name it with"),
    ("c.parquet", parquet_of(pa.table({"url": ["x"]})), "(there are url)"),
    ("c.csv", b"", "the file is empty"),
    ("c.arrow", b"ARROW1", "no format of captions with the suffix named '.arrow'"),
    ("c.parquet", PARQUET[:-50], "Parquet magic bytes not found in footer"),
    ("c.tar", TAR[: 1024 * 40 + 100], "truncated; copy or download it again"),
    ("c.csv", b'caption\n"a dog\na cat\n', "a quotation mark is not closed"),
    ("c.jsonl", b"a dog\n", "its first line is no JSON object"),
]


@pytest.mark.parametrize(("name", "content", "text"), REFUSED, ids=range(len(REFUSED)))
def test_unreadable_file_is_one_line_and_gives_no_partial_count(
    name: str, content: bytes, text: str, tmp_path: Path, count: Count
) -> None:
    (tmp_path / name).write_bytes(content)
    write_captions(tmp_path / "good.txt", DOGS)
    lines = count(tmp_path / name, tmp_path / "good.txt", "--workers", 1, code=2).splitlines()
    (error,) = [line for line in lines if "error: " in line]
    assert text in error
    assert name in error


def test_compressed_file_in_a_folder_is_not_left_out(tmp_path: Path, count: Count) -> None:
    (tmp_path / "captions").mkdir()
    write_captions(tmp_path / "captions" / "a.txt", DOGS)
    (tmp_path / "captions" / "b.csv.gz").touch()
    assert "b.csv.gz is compressed" in count(tmp_path / "captions", code=2)


BROKEN = {
    "no UTF-8": (b"caf\xe9, a dog", 1, [REPAIRED]),
    "NUL": (b"a \x00 dog", 1, []),
    "too long": (b"dog " * (10 * 2**20 // 4), 0, [MISSING]),
    "empty": (b"", 0, []),
}


@pytest.mark.parametrize("suffix", ["parquet", "tar", "csv", "jsonl", "txt"])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_caption_is_counted(case: str, suffix: str, tmp_path: Path, count: Count) -> None:
    caption, num_dogs, messages = BROKEN[case]
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
    text = count(path)
    assert [message for message in (MISSING, REPAIRED) if message in text] == messages
    assert counts(tmp_path) == {"cat": 2, **({"dog": num_dogs} if num_dogs else {})}
