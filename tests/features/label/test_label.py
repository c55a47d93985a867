"""`python -m bench label`: the same labels however they are made, and what is finished is not made again."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.data.manifest import pretrain_shards
from bench.data.pack import PackImages
from bench.data.parquet_files import MAX_BATCH_ROWS
from bench.data.targets import Captions
from bench.interfaces.method import METHODS
from bench.labels.labeller import Tally, get_labeller, get_rule
from bench.labels.vocabulary import read_vocabulary
from tests.cli.test_names_that_are_not_utf8 import LATIN1, require_one_line
from tests.data.shards import webdataset_members, write_shard
from tests.labels.files import FORMATS, write_captions
from tests.small import small

ROOT = Path(__file__).parents[3]
PACK = [str(path) for path in pretrain_shards()]
WORDS = st.lists(
    st.sampled_from(["a", "dog", "cats", "riding", "two", "bicycle", "xyzzy", "!", "日本"]),
    max_size=6,
)
CAPTIONS = st.lists(st.none() | WORDS.map(" ".join), max_size=12)
LabelFiles = Callable[..., str]


@pytest.fixture
def label(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> LabelFiles:
    """A function that runs the command into tmp_path/out, and returns what it wrote to stderr."""

    def run(*words: object, code: int = 0, out: object = tmp_path / "out") -> str:
        capsys.readouterr()
        assert main(["label", *map(str, words), "--out", str(out)]) == code
        return capsys.readouterr().err

    return run


@pytest.fixture
def label_with_pack(label: LabelFiles) -> LabelFiles:
    return partial(label, "--vocabulary", "pack-synsets")


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def binary(captions: list[str | None]) -> pa.BinaryArray:
    return pa.array(captions, pa.string()).cast(pa.binary())


@settings(max_examples=80, derandomize=True, deadline=None)
@given(CAPTIONS, st.sampled_from([("corenet", "pack-synsets"), ("subword", "pack-subwords")]))
def test_labels_are_vocabulary_columns_of_the_rules_labels(
    captions: list[str | None], names: tuple[str, str]
) -> None:
    rule, vocabulary = names
    all_labels, _ = get_labeller(rule, "")(binary(captions))
    labeller = get_labeller(rule, vocabulary)
    labels, tally = labeller(binary(captions))
    column_of = {key: column for column, key in enumerate(read_vocabulary(vocabulary).keys)}
    keys = [[labeller.rule.keys[label] for label in row] for row in all_labels.to_pylist()]
    assert labels.to_pylist() == [
        [column_of[key] for key in row if key in column_of] for row in keys
    ]
    assert (tally.captions, tally.empty) == (len(captions), labels.to_pylist().count([]))
    assert (tally.missing, tally.counts.sum()) == (captions.count(None), len(labels.flatten()))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(CAPTIONS, CAPTIONS)
def test_tallies_of_parts_sum_to_the_tally_of_all(
    first: list[str | None], second: list[str | None]
) -> None:
    label = get_labeller("corenet", "")
    total = Tally()
    total.add(label(binary(first))[1])
    total.add(label(binary(second))[1])
    expected = label(binary([*first, *second]))[1]
    for name in ("captions", "empty", "missing"):
        assert getattr(total, name) == getattr(expected, name)
    assert total.counts.tolist() == expected.counts.tolist()
    assert total.caption_counts.tolist() == expected.caption_counts.tolist()


def test_subwords_are_the_tokenizers_without_start_end_and_padding() -> None:
    tokenizer = open_clip.SimpleTokenizer()
    special = {0, tokenizer.sot_token_id, tokenizer.eot_token_id}
    captions = ["a dog, a dog!", ""]
    labels = get_rule("subword").label(pa.array(captions)).to_pylist()
    for caption, ids in zip(captions, labels, strict=True):
        tokens = dict.fromkeys(tokenizer(caption)[0].tolist())
        assert ids == [token for token in tokens if token not in special]
    assert get_rule("subword").title(labels[0][1]) == "dog</w>"


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_labels(
    suffix: str, tmp_path: Path, label_with_pack: LabelFiles
) -> None:
    captions = ["a dog", "", "two cats on a house", "xyzzy"] * 5
    label_with_pack(write_captions(tmp_path / f"c.{suffix}", captions))
    table = pq.read_table(tmp_path / "out" / "c.parquet")
    assert table.schema.field("labels").type.value_type == pa.uint32()
    assert table.column("labels").to_pylist() == get_labeller(
        "corenet", "pack-synsets"
    ).label_texts(captions)
    assert table.column("key").to_pylist() == [
        str(row) if "txt" in suffix else f"k{row}" for row in range(20)
    ]


def test_number_of_processes_changes_neither_labels_nor_counts(
    tmp_path: Path, label: LabelFiles, label_with_pack: LabelFiles
) -> None:
    """Files side by side, and the batches of one file on a pool."""
    captions = [f"a dog number {number} and many cats" for number in range(MAX_BATCH_ROWS + 1000)]
    (tmp_path / "three").mkdir()
    pq.write_table(pa.table({"caption": captions}), tmp_path / "one.parquet")
    for name in "abc":
        pq.write_table(
            pa.table({"caption": captions[:1000]}), tmp_path / "three" / f"{name}.parquet"
        )
    for name in ("one.parquet", "three"):
        outputs = []
        for workers in ("1", "2"):
            out = tmp_path / f"out-{name}-{workers}"
            label_with_pack(tmp_path / name, "--workers", workers, out=out)
            label(tmp_path / name, "--workers", workers, "--count-only", out=out / "v.json")
            outputs.append(content(out))
        assert outputs[0] == outputs[1]


def test_finished_files_are_kept_and_missing_ones_are_labelled(
    tmp_path: Path, label_with_pack: LabelFiles
) -> None:
    out = tmp_path / "out"
    for name in "abc":
        write_captions(tmp_path / f"{name}.jsonl", [f"{name} dog"])
    label_with_pack(tmp_path)
    labels = content(out)
    times = {name: (out / name).stat().st_mtime_ns for name in labels}
    (out / "b.parquet").unlink()
    assert "2 of 3 files are already labelled" in label_with_pack(tmp_path)
    assert content(out) == labels
    kept = {name for name in labels if (out / name).stat().st_mtime_ns == times[name]}
    assert kept == {"a.parquet", "c.parquet"}


def test_no_file_but_the_same_labels_is_taken_for_finished(
    tmp_path: Path, label: LabelFiles, label_with_pack: LabelFiles
) -> None:
    """Labels of another vocabulary, choice of captions or input, damaged ones, and a table of the user's."""
    path = write_captions(tmp_path / "c.jsonl", ["a dog"])
    vocabulary = tmp_path / "v.json"
    label(path, "--count-only", out=vocabulary)
    label_with_pack(path)
    labels = content(tmp_path / "out")
    refusal = "c.parquet holds no labels of "
    assert refusal in label(path, "--vocabulary", vocabulary, code=2)
    assert refusal in label_with_pack(path, "--caption", "TEXT", code=2)
    assert content(tmp_path / "out") == labels
    write_captions(path, ["a cat"])
    assert refusal in label_with_pack(path, code=2)
    (tmp_path / "out" / "c.parquet").write_bytes(labels["c.parquet"][:-30])
    assert refusal in label_with_pack(path, code=2)
    table = write_captions(tmp_path / "out" / "c.parquet", ["a dog"])
    before = table.read_bytes()
    assert refusal in label_with_pack(table, code=2)
    assert table.read_bytes() == before


def test_label_files_keep_subfolders_and_have_unique_names(
    tmp_path: Path, label: LabelFiles, label_with_pack: LabelFiles
) -> None:
    """img2dataset leaves a table of the captions beside each tar file."""
    for folder in ("a", "b"):
        write_shard(tmp_path / folder / "0.tar", {"a.txt": b"a dog", "b.txt": b"two dogs"})
    label_with_pack(tmp_path / "*" / "0.tar")
    assert content(tmp_path / "out").keys() == {"a/0.parquet", "b/0.parquet"}
    write_captions(tmp_path / "a" / "0.parquet", ["a dog", "two dogs"])
    for words in ("--count-only", "--vocabulary=pack-synsets"):
        text = label(tmp_path / "a", words, code=2, out=tmp_path / "new")
        assert "2 inputs differ from 0.parquet by their suffix alone" in text


COUNT_PACK = ("label", *PACK, "--count-only", "--out", "v.json")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ("label", "nowhere.csv", "--count-only", "--out", "v.json"),
            "nowhere.csv: no file of captions found",
        ),
        (("label", "*.nothing", "--count-only", "--out", "v.json"), "no file of captions found"),
        (("label", "--count-only", "--out", "v.json"), "no input given"),
        (
            ("label", LATIN1, "--count-only", "--out", "v.json"),
            "is not UTF-8, rename the file or folder",
        ),
        (COUNT_PACK[:-2], "--out is missing"),
        (("label", *PACK, "--size", "9", "--out", "v"), "--min-count and --size need --count-only"),
        (("label", *PACK, "--out", "labels"), "--vocabulary FILE is missing"),
        ((*COUNT_PACK, "--rule", "subwords"), "did you mean 'subword'"),
        ((*COUNT_PACK, "--min-count", "0"), "--min-count must be from 1 to"),
    ],
)
def test_typo_is_answered_with_the_nearest_name(
    arguments: tuple[str, ...],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments]) == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_caption_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "--explain", "A dog riding two bicycles"]) == 0
    shown = capsys.readouterr().out
    assert "bicycle.n.01" in shown
    assert "n2084071" in shown
    assert main(["label", "--explain", "a dog", "--rule", "subword"]) == 0
    assert "dog</w>" in capsys.readouterr().out
    assert main(["label", "--explain", "a dog", "--vocabulary", "pack-subwords"]) == 0
    assert "dog</w>" in capsys.readouterr().out


def test_synsets_are_labelled_without_torch(tmp_path: Path) -> None:
    path = write_captions(tmp_path / "c.txt", ["a dog"])
    code = (
        "import sys; from bench.__main__ import main; "
        "code = main(['label', sys.argv[1], '--vocabulary', 'pack-synsets', '--out', sys.argv[2]]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_stored_labels_of_the_pack_equal_computed_ones_and_are_refused_for_others(
    images: PackImages, tmp_path: Path, label: LabelFiles
) -> None:
    folder = tmp_path / "labels"
    stored = small("catlip", labels=str(folder))
    with pytest.raises(ValueError, match="is not there; create it with: python -m bench label"):
        METHODS["catlip"].targets(stored)
    label(*PACK, "--vocabulary", "pack-synsets", out=folder)
    captions = Captions.from_texts(images.captions)
    read, computed = (
        METHODS["catlip"].targets(experiment)(captions) for experiment in (stored, small("catlip"))
    )
    assert len(computed.columns)
    for name in ("rows", "columns", "starts"):
        assert getattr(read, name).equal(getattr(computed, name)), name
    with pytest.raises(ValueError, match=r"has labels of 11979 captions, there are 7"):
        METHODS["catlip"].targets(stored)(Captions.from_texts(images.captions[:7]))
    label(PACK[0], "--count-only", out=tmp_path / "v.json")
    with pytest.raises(ValueError, match="holds no labels of"):
        METHODS["catlip"].targets(
            small("catlip", labels=str(folder), synset_vocabulary=str(tmp_path / "v.json"))
        )
    shutil.copy(folder / "noto.parquet", folder / "emojione.parquet")
    with pytest.raises(ValueError, match=r"emojione\.parquet holds no labels of"):
        METHODS["catlip"].targets(stored)


def test_shards_whose_names_are_not_utf8_are_counted_but_not_labelled(
    tmp_path: Path, label: LabelFiles, label_with_pack: LabelFiles
) -> None:
    write_shard(tmp_path / f"{LATIN1}.tar", webdataset_members(0, 20))
    label(tmp_path, "--count-only", out=tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_bytes())["captions"] == 20
    require_one_line(label_with_pack(tmp_path, code=2))
    assert not (tmp_path / "out").exists()
