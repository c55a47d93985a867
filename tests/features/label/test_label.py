"""`python -m bench label`: the same labels however they are made, and what is finished is not made again."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.console.tables import print_tables
from bench.data.captions.batches import MAX_BATCH_ROWS, NULL, CaptionBatch
from bench.data.captions.files import find_caption_files, select_part
from bench.data.manifest import pretrain_shards
from bench.data.pack import PackImages
from bench.data.targets import Captions
from bench.features.label.tables import explanation_table
from bench.interfaces.method import METHODS
from bench.labels.labeller import Labeller, Tally, get_labeller, get_rule
from bench.labels.vocabulary import read_vocabulary
from tests.chaos.odd_captions import of_text
from tests.cli.test_names_that_are_not_utf8 import LATIN1, require_one_line
from tests.data.shards import webdataset_members, write_shard
from tests.labels.files import FORMATS, write_captions
from tests.small import small

ROOT = Path(__file__).parents[3]
PACK = [str(path) for path in pretrain_shards()]
SHIPPED = str(ROOT / "bench/labels/vocabularies/pack-synsets.json")
EXPLAINED = 2000  # characters that a person would type
WORDS = st.lists(st.sampled_from(["a", "dog", "cats", "riding", "two", "bicycle", "xyzzy", "!", "日本"]), max_size=6)
CAPTIONS = st.lists(st.none() | WORDS.map(" ".join), max_size=12)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def batch_of(captions: list[str | None]) -> CaptionBatch:
    return CaptionBatch(
        pa.array(map(str, range(len(captions))), pa.string()), pa.array(captions, pa.string()).cast(pa.binary()), 0
    )


@cache
def labellers(rule: str, vocabulary: str) -> tuple[Labeller, Labeller, tuple[str, ...]]:
    """The labeller of all labels, the one of a vocabulary's, and what these are called in their order."""
    return get_labeller(rule, None), get_labeller(rule, vocabulary), read_vocabulary(vocabulary).keys


@settings(max_examples=80, derandomize=True, deadline=None)
@given(CAPTIONS, st.sampled_from(["corenet", "subword"]))
def test_labels_are_vocabulary_columns_of_the_rules_labels(captions: list[str | None], rule: str) -> None:
    name = {"subword": "pack-subwords"}.get(rule, "pack-synsets")
    whole, some, order = labellers(rule, name)
    (found, _), (columns, tally) = whole(batch_of(captions)), some(batch_of(captions))
    keys = [[whole.rule.keys[label] for label in row] for row in found.to_pylist()]
    known = {*order}
    kept = [[key for key in row if key in known] for row in keys]
    assert [[order[column] for column in row] for row in columns.to_pylist()] == kept
    assert (tally.captions, tally.empty) == (len(captions), sum(not row for row in kept))
    assert tally.labels == sum(map(len, kept)) == tally.counts.sum()
    assert tally.flaws.get(NULL, 0) == captions.count(None)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(CAPTIONS, CAPTIONS)
def test_tallies_of_parts_sum_to_the_tally_of_the_whole(one: list[str | None], other: list[str | None]) -> None:
    label = get_labeller("corenet", "pack-synsets")
    total = Tally()
    for part in (one, other):
        total.add(label(batch_of(part))[1])
    whole = label(batch_of([*one, *other]))[1]
    assert (total.captions, total.empty, total.labels, total.flaws) == (
        *(whole.captions, whole.empty, whole.labels),
        whole.flaws,
    )
    assert total.counts.tolist() == whole.counts.tolist()


def test_subwords_are_those_of_the_tokenizer_without_start_end_and_padding() -> None:
    tokens = [tokens_of("a dog, a dog!"), tokens_of("")]
    ids, offsets = get_rule("subword").label(pa.array(["a dog, a dog!", ""]))
    assert [ids[start:end].tolist() for start, end in pairwise(offsets)] == tokens
    assert get_rule("subword").title(tokens[0][1]) == "dog</w>"


def tokens_of(caption: str) -> list[int]:
    """open_clip's own tokens of a caption, each once."""
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    special = {0, tokenizer.sot_token_id, tokenizer.eot_token_id}
    return [token for token in dict.fromkeys(tokenizer(caption)[0].tolist()) if token not in special]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_labels(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = ["a dog", "", "two cats on a house", "xyzzy"] * 5
    path = write_captions(tmp_path / f"c.{suffix}", captions)
    assert main(["label", str(path), "--vocabulary", "pack-synsets", "--out", str(tmp_path / "out")]) == 0
    table = pq.read_table(tmp_path / "out" / "c.parquet")
    assert table.schema.field("labels").type.value_type == pa.uint32()
    assert table.column("labels").to_pylist() == get_labeller("corenet", "pack-synsets").label_texts(captions)
    assert table.column("key").to_pylist() == [str(row) if "txt" in suffix else f"k{row}" for row in range(20)]
    assert "Most frequent labels" in capsys.readouterr().out


def test_number_of_processes_does_not_change_labels(tmp_path: Path) -> None:
    """Many files side by side, one file's batches shared out."""
    captions = [f"a dog number {number} and many cats" for number in range(MAX_BATCH_ROWS + 1000)]
    for name, number in (("one", len(captions)), ("two/a", 1000), ("two/b", 1000), ("two/c", 1000)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"caption": captions[:number]}), tmp_path / f"{name}.parquet")
    for name, total in (("one.parquet", len(captions)), ("two", 3000)):
        made = []
        for workers in ("1", "2"):
            out = tmp_path / f"out-{name}-{workers}"
            options = ["--workers", workers, "--json", str(tmp_path / "figures.json"), "--out", str(out)]
            assert main(["label", str(tmp_path / name), "--vocabulary", "pack-synsets", *options]) == 0
            figures = json.loads((tmp_path / "figures.json").read_bytes())
            for row in figures["Captions"]["rows"]:
                row.pop("captions/s")
            made.append((content(out), figures))
        assert made[0] == made[1]
        assert figures["Most frequent labels"]["rows"][0]["count"] == total


def test_finished_files_are_kept_and_missing_ones_are_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        write_captions(tmp_path / f"{name}.jsonl", [f"{name} dog"])
    arguments = ["label", str(tmp_path), "--vocabulary", "pack-synsets", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    made = content(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in made}
    (tmp_path / "out" / "b.parquet").unlink()
    assert main(arguments) == 0
    assert content(tmp_path / "out") == made
    same = {name for name in made if (tmp_path / "out" / name).stat().st_mtime_ns == times[name]}
    assert same == {"a.parquet", "c.parquet"}
    assert "2 of 3 files are already labelled" in capsys.readouterr().err
    assert main([*arguments, "--force"]) == 0
    assert content(tmp_path / "out") == made
    assert (tmp_path / "out" / "a.parquet").stat().st_mtime_ns != times["a.parquet"]
    capsys.readouterr()


def test_labels_of_changed_or_damaged_files_are_redone_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_captions(tmp_path / "c.jsonl", ["a dog"])
    arguments = ["label", str(path), "--vocabulary", "pack-synsets", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    before = content(tmp_path / "out")
    write_captions(path, ["a cat"])
    assert main(arguments) == 0
    assert "changed since" in capsys.readouterr().err
    after = content(tmp_path / "out")
    assert before != after
    (tmp_path / "out" / "c.parquet").write_bytes(after["c.parquet"][:-30])
    assert main(arguments) == 0
    assert "is not a complete file of labels: it is labelled again" in capsys.readouterr().err
    assert content(tmp_path / "out") == after


def test_labels_made_with_other_settings_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_captions(tmp_path / "c.parquet", ["a dog"])
    assert main(["label", str(path), "--count-only", "--out", str(tmp_path / "v.json")]) == 0
    assert main(["label", str(path), "--vocabulary", "pack-synsets", "--out", str(tmp_path / "out")]) == 0
    made = content(tmp_path / "out")
    other = ["label", str(path), "--vocabulary", str(tmp_path / "v.json"), "--out", str(tmp_path / "out")]
    for arguments in (other, [*other[:3], "pack-synsets", *other[4:], "--caption", "caption"]):
        assert main(arguments) == 2
        assert "was made with other options" in capsys.readouterr().err
    assert content(tmp_path / "out") == made
    assert main([*other, "--force"]) == 0
    assert content(tmp_path / "out") != made
    capsys.readouterr()


def test_vocabulary_digest_depends_on_label_order() -> None:
    vocabulary = read_vocabulary("pack-synsets")
    assert vocabulary.digest == vocabulary.filtered(10, None).digest
    assert vocabulary.digest != vocabulary.filtered(1, 600).digest


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15))
def test_parts_partition_the_shards(count: int, parts: int) -> None:
    shards = find_caption_files(PACK)[:count]
    found = [shard for part in range(1, parts + 1) for shard in select_part(shards, f"{part}/{parts}")]
    assert sorted(found, key=lambda shard: shard.name) == shards


def test_merged_counts_of_parts_equal_the_count_of_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(4):
        write_captions(shards / f"{number}.jsonl", ["a dog", f"{number} cats"] * 10)
    files = [str(tmp_path / f"{part}.json") for part in (1, 2, 3)]
    for part, file in enumerate(files, start=1):
        assert main(["label", str(shards), "--count-only", "--shards", f"{part}/3", "--out", file]) == 0
    whole, merged = tmp_path / "whole.json", tmp_path / "merged.json"
    assert main(["label", str(shards), "--count-only", "--min-count", "10", "--out", str(whole)]) == 0
    assert main(["label", "--merge", *files, "--min-count", "10", "--out", str(merged)]) == 0
    assert merged.read_bytes() == whole.read_bytes()
    capsys.readouterr()
    assert main(["label", "--merge", files[0], files[2], "--out", str(tmp_path / "none.json")]) == 2
    assert "all parts must be given once; missing: 2/3" in capsys.readouterr().err
    (tmp_path / "half.json").write_bytes(Path(files[0]).read_bytes().replace(b'"1/3"', b'"1/2"'))
    for other, text in (("half.json", "3/3, 1/2"), ("whole.json", "3/3, all files")):
        assert main(["label", "--merge", files[2], str(tmp_path / other), "--out", str(tmp_path / "none.json")]) == 2
        assert f"these are parts of different divisions: {text}" in capsys.readouterr().err
    assert main(["label", str(shards), "--count-only", "--shards", "1/2", "--size", "9", "--out", files[0]]) == 2
    assert "--shards counts a part, which --min-count and --size may not cut" in capsys.readouterr().err
    assert main(["label", str(shards), "--vocabulary", files[0], "--out", str(tmp_path / "labels")]) == 2
    assert "counts part 1/3 of the files: add all parts up with" in capsys.readouterr().err


def test_label_files_keep_subfolders_and_have_unique_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_captions(tmp_path / folder / "0.csv", [f"{folder} dog"])
    arguments = ["--vocabulary", "pack-synsets", "--out", str(tmp_path / "out")]
    assert main(["label", str(tmp_path / "*" / "0.csv"), *arguments]) == 0
    assert content(tmp_path / "out").keys() == {"a/0.parquet", "b/0.parquet"}
    write_captions(tmp_path / "a" / "0.parquet", ["a dog"])
    assert main(["label", str(tmp_path / "a"), *arguments]) == 2
    assert "would both write" in capsys.readouterr().err
    assert main(["label", str(tmp_path / "a" / "0.parquet"), *arguments[:2], "--out", str(tmp_path / "a")]) == 2
    assert "written over" in capsys.readouterr().err


def test_tables_of_img2dataset_are_not_labelled_beside_their_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder as img2dataset leaves it, one of its files alone, and the labels written beside the shards."""
    shards, v, out = tmp_path / "shards", tmp_path / "v.json", tmp_path / "out"
    shards.mkdir()
    write_shard(shards / "00000.tar", {"a.txt": b"a dog", "b.txt": b"two dogs"})
    pq.write_table(pa.table({"caption": ["a dog", "two dogs"], "key": ["a", "b"]}), shards / "00000.parquet")
    (shards / "00000_stats.json").write_text('{"count": 2}')
    table = (shards / "00000.parquet").read_bytes()
    for inputs in ([str(shards)], [str(shards / "*.[pt]a*")], [str(one) for one in shards.glob("*.[pt]a*")]):
        assert main(["label", *inputs, "--count-only", "--out", str(v)]) == 0
        assert json.loads(v.read_bytes())["captions"] == 2
        assert "not labelled: 1 parquet files with the captions of the tar files" in capsys.readouterr().err
    assert main(["label", str(shards), "--vocabulary", str(v), "--out", str(out)]) == 0
    assert pq.read_table(out / "00000.parquet").column("key").to_pylist() == ["a", "b"]
    assert main(["label", str(shards / "00000.parquet"), "--count-only", "--out", str(v)]) == 0
    for more in ([], ["--force"]):
        assert main(["label", str(shards / "*.tar"), "--vocabulary", str(v), "--out", str(shards), *more]) == 2
        assert "written over" in capsys.readouterr().err.splitlines()[-1]
    assert (shards / "00000.parquet").read_bytes() == table


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["label"], "--out FOLDER is missing: name the output"),
        (["label", "nowhere.csv", "--count-only", "--out", "v.json"], "no file, folder or glob 'nowhere.csv'"),
        (["label", "*.nothing", "--count-only", "--out", "v.json"], "no file of captions found"),
        (["label", "--count-only", "--out", "v.json"], "no input given"),
        (["label", LATIN1, "--count-only", "--out", "v.json"], "is not UTF-8, rename the file or folder"),
        (["label", "--merge", SHIPPED, "--out", "/no folder of this name/v.json"], "make that folder"),
        (["label", *PACK, "--count-only"], "--out FILE is missing"),
        (["label", *PACK, "--out", "labels"], "--vocabulary FILE is missing"),
        (["label", *PACK, "--count-only", "--out", "v.json", "--shards", "0/8"], "'0/8': expected k/n with k from"),
        (["label", *PACK, "--count-only", "--out", "v.json", "--rule", "subwords"], "did you mean 'subword'"),
        (["label", "--explain", "a dog", "--rule", "subwords"], "did you mean 'subword'"),
        (
            ["label", *PACK, "--count-only", "--out", "v.json", "--min-count", "0"],
            "--min-count must be from 1 to",
        ),
        (["label", *PACK, "--count-only", "--out", "v.json", "--workers", "0"], "--workers must be from 1 to"),
        (["label", *PACK, "--count-only", "--out", "v.json", "--size", "0"], "--size must be from 1 to 1e+12"),
    ],
)
def test_typo_is_answered_with_the_nearest_name(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_caption_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "--explain", "A dog riding two bicycles"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("bicycles", "bicycle.n.01", "n2084071", "so a.n.01 is not its name"))
    assert main(["label", "--explain", "a dog", "--rule", "subword"]) == 0
    assert "dog</w>" in capsys.readouterr().out
    assert main(["label", "--explain", "a \x1b[31m dog \x9b0m"]) == 0
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "dog.n.01" in shown


def test_synsets_are_labelled_without_torch(tmp_path: Path) -> None:
    path = write_captions(tmp_path / "c.txt", ["a dog"])
    code = (
        "import sys; from bench.__main__ import main; "
        "code = main(['label', sys.argv[1], '--vocabulary', 'pack-synsets', '--out', sys.argv[2]]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_ray_gives_the_same_labels(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an optional extra")
    options = [*PACK[:3], "--vocabulary", "pack-synsets", "--out"]
    for engine in ("local", "ray"):
        done = subprocess.run(
            [sys.executable, "-m", "bench", "label", *options, str(tmp_path / engine), "--engine", engine],
            cwd=ROOT,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.fixture(scope="module")
def pack_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack-labels")
    assert main(["label", *PACK, "--vocabulary", "pack-synsets", "--out", str(folder)]) == 0
    return folder


def test_training_on_stored_labels_sees_the_batches_of_computed_ones(results: Path, pack_labels: Path) -> None:
    from bench.train.build import load_data
    from tests.data.test_stream import CPU

    computed = load_data(small("catlip"), CPU, results)
    stored = load_data(small("catlip", labels=str(pack_labels)), CPU, results)
    for k in (0, 1, 700):
        one, other = computed.batch(k), stored.batch(k)
        assert len(one.target.columns)
        for name in ("rows", "columns", "starts"):
            assert getattr(one.target, name).equal(getattr(other.target, name)), name
        assert one.images.equal(other.images)


def test_stored_labels_that_do_not_fit_are_refused(
    images: PackImages, pack_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "labels"
    stored = small("catlip", labels=str(folder))
    with pytest.raises(ValueError, match="no complete file of labels; create it with: python -m bench label"):
        METHODS["catlip"].targets(stored)
    shutil.copytree(pack_labels, folder)
    with pytest.raises(ValueError, match=r"has labels of 11979 captions, there are 7"):
        METHODS["catlip"].targets(stored)(Captions.from_texts(images.captions[:7]))
    assert main(["label", PACK[0], "--count-only", "--out", str(tmp_path / "v.json")]) == 0
    shipped = r"\S*pack-synsets.json"
    text = rf"was made with the vocabulary {shipped}, not with \S*v.json: add --vocabulary {shipped}"
    with pytest.raises(ValueError, match=text):
        METHODS["catlip"].targets(small("catlip", labels=str(folder), synset_vocabulary=str(tmp_path / "v.json")))
    with monkeypatch.context() as later:
        later.setattr("bench.labels.label_files.FORMAT", 2)
        with pytest.raises(ValueError, match=r"has format 1, this version reads format 2: label the shards again"):
            METHODS["catlip"].targets(stored)
    (folder / "noto.parquet").replace(folder / "emojione.parquet")
    with pytest.raises(ValueError, match=r"emojione\.parquet was not created from"):
        METHODS["catlip"].targets(stored)


def test_odd_caption_is_explained_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in of_text().items():
        print_tables([explanation_table(get_rule("corenet"), text[:EXPLAINED].decode(errors="replace"))])
        assert capsys.readouterr().out.replace("\n", "").isprintable(), name


def test_shards_whose_names_are_not_utf8_are_counted_but_not_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(tmp_path / f"{LATIN1}.tar", webdataset_members(0, 20))
    assert main(["label", str(tmp_path), "--count-only", "--out", str(tmp_path / "v.json")]) == 0
    assert json.loads((tmp_path / "v.json").read_bytes())["captions"] == 20
    assert main(["label", str(tmp_path), "--vocabulary", "pack-synsets", "--out", str(tmp_path / "labels")]) == 2
    require_one_line(capsys.readouterr().err)
    assert not (tmp_path / "labels").exists()
