"""`python -m bench label`: the same labels however they are made, and what is finished is not made again."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.console.tables import print_tables
from bench.data.captions.batches import MAX_BATCH_ROWS, CaptionBatch
from bench.data.captions.files import find_caption_files, select_part
from bench.data.captions.reader import NO_CAPTION
from bench.data.manifest import pretrain_shards
from bench.data.pack import PackImages
from bench.data.targets import Captions
from bench.features.label.tables import explanation_table
from bench.interfaces.method import METHODS
from bench.labels.labeller import Tally, get_labeller, get_rule
from bench.labels.vocabulary import read_vocabulary
from tests.chaos.odd_captions import of_text
from tests.cli.test_names_that_are_not_utf8 import LATIN1, require_one_line
from tests.data.shards import webdataset_members, write_shard
from tests.labels.files import FORMATS, write_captions
from tests.small import small

ROOT = Path(__file__).parents[3]
PACK = [str(path) for path in pretrain_shards()]
SHIPPED = str(ROOT / "bench/labels/vocabularies/pack-synsets.json")
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


def batch_of(captions: list[str | None]) -> CaptionBatch:
    keys = pa.array(map(str, range(len(captions))), pa.string())
    return CaptionBatch(keys, pa.array(captions, pa.string()).cast(pa.binary()), 0)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(CAPTIONS, st.sampled_from([("corenet", "pack-synsets"), ("subword", "pack-subwords")]))
def test_labels_are_vocabulary_columns_of_the_rules_labels(
    captions: list[str | None], names: tuple[str, str]
) -> None:
    rule, vocabulary = names
    all_labels, _ = get_labeller(rule, None)(batch_of(captions))
    labeller = get_labeller(rule, vocabulary)
    labels, tally = labeller(batch_of(captions))
    column_of = {key: column for column, key in enumerate(read_vocabulary(vocabulary).keys)}
    keys = [[labeller.rule.keys[label] for label in row] for row in all_labels.to_pylist()]
    assert labels.to_pylist() == [
        [column_of[key] for key in row if key in column_of] for row in keys
    ]
    assert (tally.captions, tally.empty) == (len(captions), labels.to_pylist().count([]))
    assert tally.labels == len(labels.flatten()) == tally.counts.sum()
    assert tally.flaws.get(NO_CAPTION, 0) == captions.count(None)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(CAPTIONS, CAPTIONS)
def test_tallies_of_parts_sum_to_the_tally_of_all(
    first: list[str | None], second: list[str | None]
) -> None:
    label = get_labeller("corenet", "pack-synsets")
    total = Tally()
    total.add(label(batch_of(first))[1])
    total.add(label(batch_of(second))[1])
    expected = label(batch_of([*first, *second]))[1]
    for name in ("captions", "empty", "labels", "flaws"):
        assert getattr(total, name) == getattr(expected, name)
    assert total.counts.tolist() == expected.counts.tolist()


def test_subwords_are_the_tokenizers_without_start_end_and_padding() -> None:
    tokenizer = open_clip.SimpleTokenizer()
    special = {0, tokenizer.sot_token_id, tokenizer.eot_token_id}
    captions = ["a dog, a dog!", ""]
    ids, offsets = get_rule("subword").label(pa.array(captions))
    for caption, (start, end) in zip(captions, pairwise(offsets), strict=True):
        tokens = dict.fromkeys(tokenizer(caption)[0].tolist())
        assert ids[start:end].tolist() == [token for token in tokens if token not in special]
    assert get_rule("subword").title(int(ids[1])) == "dog</w>"


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


def test_number_of_processes_does_not_change_labels(
    tmp_path: Path, label_with_pack: LabelFiles
) -> None:
    """Files side by side, and the batches of one file on a pool."""
    captions = [f"a dog number {number} and many cats" for number in range(MAX_BATCH_ROWS + 1000)]
    (tmp_path / "three").mkdir()
    pq.write_table(pa.table({"caption": captions}), tmp_path / "one.parquet")
    for name in "abc":
        pq.write_table(
            pa.table({"caption": captions[:1000]}), tmp_path / "three" / f"{name}.parquet"
        )
    for name, total in (("one.parquet", len(captions)), ("three", 3000)):
        made = []
        for workers in (1, 2):
            out = tmp_path / f"out-{name}-{workers}"
            figures = tmp_path / "figures.json"
            label_with_pack(tmp_path / name, "--workers", workers, "--json", figures, out=out)
            frequent = json.loads(figures.read_bytes())["Most frequent labels"]["rows"]
            made.append((content(out), frequent))
        assert made[0] == made[1]
        assert frequent[0]["count"] == total


def test_finished_files_are_kept_and_missing_ones_are_labelled(
    tmp_path: Path, label_with_pack: LabelFiles
) -> None:
    out = tmp_path / "out"
    for name in "abc":
        write_captions(tmp_path / f"{name}.jsonl", [f"{name} dog"])
    label_with_pack(tmp_path)
    made = content(out)
    times = {name: (out / name).stat().st_mtime_ns for name in made}
    (out / "b.parquet").unlink()
    assert "2 of 3 files are already labelled" in label_with_pack(tmp_path)
    assert content(out) == made
    assert {name for name in made if (out / name).stat().st_mtime_ns == times[name]} == {
        "a.parquet",
        "c.parquet",
    }
    label_with_pack(tmp_path, "--force")
    assert content(out) == made
    assert (out / "a.parquet").stat().st_mtime_ns != times["a.parquet"]


def test_labels_of_changed_or_damaged_files_are_redone_with_the_reason(
    tmp_path: Path, label_with_pack: LabelFiles
) -> None:
    path = write_captions(tmp_path / "c.jsonl", ["a dog"])
    label_with_pack(path)
    before = content(tmp_path / "out")
    write_captions(path, ["a cat"])
    assert "changed since" in label_with_pack(path)
    after = content(tmp_path / "out")
    assert before != after
    (tmp_path / "out" / "c.parquet").write_bytes(after["c.parquet"][:-30])
    assert "is not a complete file of labels: it is labelled again" in label_with_pack(path)
    assert content(tmp_path / "out") == after


def test_labels_made_with_other_settings_are_not_overwritten(
    tmp_path: Path, label: LabelFiles, label_with_pack: LabelFiles
) -> None:
    path = write_captions(tmp_path / "c.parquet", ["a dog"])
    vocabulary = tmp_path / "v.json"
    label(path, "--count-only", out=vocabulary)
    label_with_pack(path)
    made = content(tmp_path / "out")
    assert "was made with other options" in label(path, "--vocabulary", vocabulary, code=2)
    assert "was made with other options" in label_with_pack(path, "--caption", "caption", code=2)
    assert content(tmp_path / "out") == made
    label(path, "--vocabulary", vocabulary, "--force")
    assert content(tmp_path / "out") != made


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15))
def test_parts_partition_the_shards(count: int, parts: int) -> None:
    shards = find_caption_files(PACK)[:count]
    selected = [
        shard for part in range(1, parts + 1) for shard in select_part(shards, f"{part}/{parts}")
    ]
    assert sorted(selected, key=lambda shard: shard.name) == shards


def test_merged_counts_of_parts_equal_the_count_of_all_files(
    tmp_path: Path, label: LabelFiles
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(4):
        write_captions(shards / f"{number}.jsonl", ["a dog", f"{number} cats"] * 10)
    files = [tmp_path / f"{part}.json" for part in (1, 2, 3)]
    for part, file in enumerate(files, start=1):
        label(shards, "--count-only", "--shards", f"{part}/3", out=file)
    total, merged = tmp_path / "total.json", tmp_path / "merged.json"
    label(shards, "--count-only", "--min-count", 10, out=total)
    label("--merge", *files, "--min-count", 10, out=merged)
    assert merged.read_bytes() == total.read_bytes()
    assert "all 3 parts must be given once, got 2; missing: 2/3" in label(
        "--merge", files[0], files[2], code=2
    )
    words = (shards, "--count-only", "--shards", "1/2", "--size", 9)
    assert "--shards counts a part, which --min-count and --size may not cut" in label(
        *words, code=2
    )
    text = label(shards, "--vocabulary", files[0], code=2)
    assert "counts part 1/3 of the files: add all parts up with" in text


def test_label_files_keep_subfolders_and_have_unique_names(
    tmp_path: Path, label_with_pack: LabelFiles
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_captions(tmp_path / folder / "0.csv", [f"{folder} dog"])
    label_with_pack(tmp_path / "*" / "0.csv")
    assert content(tmp_path / "out").keys() == {"a/0.parquet", "b/0.parquet"}
    table = write_captions(tmp_path / "a" / "0.parquet", ["a dog"])
    assert "would both write" in label_with_pack(tmp_path / "a", code=2)
    assert "written over" in label_with_pack(table, code=2, out=tmp_path / "a")


def test_tables_of_img2dataset_are_not_labelled_beside_their_shards(
    tmp_path: Path, label: LabelFiles
) -> None:
    """A folder as img2dataset leaves it, one of its files alone, and the labels written beside the shards."""
    shards, vocabulary = tmp_path / "shards", tmp_path / "v.json"
    shards.mkdir()
    write_shard(shards / "00000.tar", {"a.txt": b"a dog", "b.txt": b"two dogs"})
    pq.write_table(
        pa.table({"caption": ["a dog", "two dogs"], "key": ["a", "b"]}), shards / "00000.parquet"
    )
    (shards / "00000_stats.json").write_text('{"count": 2}')
    table = (shards / "00000.parquet").read_bytes()
    for inputs in ([shards], [shards / "*.[pt]a*"], shards.glob("*.[pt]a*")):
        text = label(*inputs, "--count-only", out=vocabulary)
        assert "not labelled: 1 parquet files with the captions of the tar files" in text
        assert json.loads(vocabulary.read_bytes())["captions"] == 2
    label(shards, "--vocabulary", vocabulary)
    assert pq.read_table(tmp_path / "out" / "00000.parquet").column("key").to_pylist() == ["a", "b"]
    label(shards / "00000.parquet", "--count-only", out=vocabulary)
    for more in ([], ["--force"]):
        text = label(shards / "*.tar", "--vocabulary", vocabulary, *more, code=2, out=shards)
        assert "written over" in text.splitlines()[-1]
    assert (shards / "00000.parquet").read_bytes() == table


COUNT_PACK = ("label", *PACK, "--count-only", "--out", "v.json")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("label",), "--out FOLDER is missing: name the output"),
        (
            ("label", "nowhere.csv", "--count-only", "--out", "v.json"),
            "no file, folder or glob 'nowhere.csv'",
        ),
        (("label", "*.nothing", "--count-only", "--out", "v.json"), "no file of captions found"),
        (("label", "--count-only", "--out", "v.json"), "no input given"),
        (
            ("label", LATIN1, "--count-only", "--out", "v.json"),
            "is not UTF-8, rename the file or folder",
        ),
        (
            ("label", "--merge", SHIPPED, "--out", "/no folder of this name/v.json"),
            "make that folder",
        ),
        (COUNT_PACK[:-2], "--out FILE is missing"),
        (("label", *PACK, "--out", "labels"), "--vocabulary FILE is missing"),
        ((*COUNT_PACK, "--shards", "0/8"), "'0/8': expected k/n with k from"),
        ((*COUNT_PACK, "--rule", "subwords"), "did you mean 'subword'"),
        (("label", "--explain", "a dog", "--rule", "subwords"), "did you mean 'subword'"),
        ((*COUNT_PACK, "--min-count", "0"), "--min-count must be from 1 to"),
        ((*COUNT_PACK, "--workers", "0"), "--workers must be from 1 to"),
        ((*COUNT_PACK, "--size", "0"), "--size must be from 1 to 1e+12"),
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
    assert main(["label", "--explain", "A dog riding two bicycles \x1b[31m \x9b0m"]) == 0
    shown = capsys.readouterr().out
    assert all(
        word in shown
        for word in ("bicycles", "bicycle.n.01", "n2084071", "so a.n.01 is not its name")
    )
    assert not {"\x1b", "\x9b"} & {*shown}
    assert main(["label", "--explain", "a dog", "--rule", "subword"]) == 0
    assert "dog</w>" in capsys.readouterr().out
    for name, text in of_text().items():
        print_tables([explanation_table(get_rule("corenet"), text[:2000].decode(errors="replace"))])
        assert capsys.readouterr().out.replace("\n", "").isprintable(), name


def test_synsets_are_labelled_without_torch(tmp_path: Path) -> None:
    path = write_captions(tmp_path / "c.txt", ["a dog"])
    code = (
        "import sys; from bench.__main__ import main; "
        "code = main(['label', sys.argv[1], '--vocabulary', 'pack-synsets', '--out', sys.argv[2]]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_stored_labels_of_the_pack_train_as_computed_ones_and_are_refused_for_others(
    images: PackImages,
    results: Path,
    tmp_path: Path,
    label: LabelFiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bench.train.build import load_data
    from tests.data.test_stream import CPU

    folder = tmp_path / "labels"
    stored = small("catlip", labels=str(folder))
    with pytest.raises(
        ValueError, match="no complete file of labels; create it with: python -m bench label"
    ):
        METHODS["catlip"].targets(stored)
    label(*PACK, "--vocabulary", "pack-synsets", out=folder)
    computed_stream = load_data(small("catlip"), CPU, results)
    stored_stream = load_data(stored, CPU, results)
    for k in (0, 1, 700):
        computed_batch, stored_batch = computed_stream.batch(k), stored_stream.batch(k)
        assert len(computed_batch.target.columns)
        for name in ("rows", "columns", "starts"):
            assert getattr(computed_batch.target, name).equal(getattr(stored_batch.target, name)), (
                name
            )
        assert computed_batch.images.equal(stored_batch.images)
    with pytest.raises(ValueError, match=r"has labels of 11979 captions, there are 7"):
        METHODS["catlip"].targets(stored)(Captions.from_texts(images.captions[:7]))
    label(PACK[0], "--count-only", out=tmp_path / "v.json")
    with pytest.raises(
        ValueError, match=r"was made with the vocabulary \S*pack-synsets.json, not with \S*v.json"
    ):
        METHODS["catlip"].targets(
            small("catlip", labels=str(folder), synset_vocabulary=str(tmp_path / "v.json"))
        )
    with monkeypatch.context() as later:
        later.setattr("bench.labels.label_files.FORMAT", 2)
        with pytest.raises(
            ValueError, match=r"has format 1, this version reads format 2: label the shards again"
        ):
            METHODS["catlip"].targets(stored)
    shutil.copy(folder / "noto.parquet", folder / "emojione.parquet")
    with pytest.raises(ValueError, match=r"emojione\.parquet was not created from"):
        METHODS["catlip"].targets(stored)


def test_shards_whose_names_are_not_utf8_are_counted_but_not_labelled(
    tmp_path: Path, label: LabelFiles, label_with_pack: LabelFiles
) -> None:
    write_shard(tmp_path / f"{LATIN1}.tar", webdataset_members(0, 20))
    label(tmp_path, "--count-only", out=tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_bytes())["captions"] == 20
    require_one_line(label_with_pack(tmp_path, code=2))
    assert not (tmp_path / "out").exists()
