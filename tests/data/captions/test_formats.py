"""A caption is the same caption whatever file it is in."""

import json
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.data.captions import batches
from bench.data.captions.choice import CaptionChoice
from bench.data.captions.files import read_caption_batches
from bench.data.captions.reader import CaptionReader
from tests.labels.files import FORMATS, tar_of_texts, write_captions
from tests.processes import in_child

# csv.reader takes a lone carriage return for an end of line outside quotes, and csv.writer quotes it.
TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=20
)
LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30),
    min_size=1,
)


def texts_of(path: Path, column: str | None = None) -> list[str | None]:
    captions = chain.from_iterable(
        batch.to_pylist() for batch in read_caption_batches(path, column)
    )
    return [None if caption is None else caption.decode() for caption in captions]


@pytest.mark.parametrize("suffix", FORMATS)
@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_written_captions_are_read_back(suffix: str, tmp_path: Path, data: st.DataObject) -> None:
    captions = data.draw(LINES if "txt" in suffix else TEXTS)
    if suffix.startswith(("csv", "tsv")):
        captions = [caption.replace("\r\n", "\n").replace("\r", "") for caption in captions]
    path = write_captions(tmp_path / f"c.{suffix}", captions)
    if suffix.startswith("txt"):
        captions = [
            caption.removeprefix("\ufeff") if row == 0 else caption
            for row, caption in enumerate(captions)
        ]
    assert texts_of(path) == captions


@pytest.mark.parametrize("suffix", FORMATS)
def test_batches_hold_every_row_once_in_order(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("captions.batches", "parquet_files"):
        monkeypatch.setattr(f"bench.data.{module}.MAX_BATCH_ROWS", 7)
    captions = [f"caption {row}" for row in range(50)]
    path = write_captions(tmp_path / f"c.{suffix}", captions)
    read = list(read_caption_batches(path, None))
    assert [text for batch in read for text in batch.to_pylist()] == [
        text.encode() for text in captions
    ]
    assert len(read) >= 7


def test_long_captions_end_a_batch_early(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 1000)
    path = write_captions(tmp_path / "c.txt", ["x" * 300] * 10)
    assert [len(batch) for batch in read_caption_batches(path, None)] == [4, 4, 2]
    monkeypatch.setattr("bench.data.parquet_files.MAX_BATCH_BYTES", 1000)
    pq.write_table(
        pa.table({"text": [str(row) * 300 for row in range(10)]}), tmp_path / "c.parquet"
    )
    assert [len(batch) for batch in read_caption_batches(tmp_path / "c.parquet", None)] == [2] * 5


@pytest.mark.parametrize(
    ("names", "column"),
    [
        (["url", "caption", "text"], "caption"),
        (["SAMPLE_ID", "URL", "TEXT"], "TEXT"),
        (["title", "alt"], "alt"),
        (["Caption"], "Caption"),
    ],
)
def test_the_captions_column_is_known_by_its_name(names: list[str], column: str) -> None:
    assert CaptionReader(CaptionChoice()).find_needed_columns(names, names, []) == [column]


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()],
)
def test_every_stored_text_type_is_read_as_text(kind: pa.DataType, tmp_path: Path) -> None:
    array = pa.array(["a dog", None, "a cat", "a dog"]).cast(
        kind if kind != pa.binary() else pa.binary()
    )
    pq.write_table(pa.table({"caption": array}), tmp_path / "c.parquet")
    assert texts_of(tmp_path / "c.parquet") == ["a dog", None, "a cat", "a dog"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_has_the_delimiter_of_its_header(delimiter: str, tmp_path: Path) -> None:
    rows = [["title", "url"], ["a dog" if delimiter == "," else "a dog, a cat", "http://a"]]
    (tmp_path / "c.csv").write_text("\n".join(map(delimiter.join, rows)))
    assert texts_of(tmp_path / "c.csv") == [rows[1][0]]
    (tmp_path / "c.tsv").write_text("caption\na dog, a cat\n")
    assert texts_of(tmp_path / "c.tsv") == ["a dog, a cat"]


def test_shard_caption_is_the_txt_member_or_a_json_field(tmp_path: Path) -> None:
    members = {
        "a/1.jpg": "",
        "a/1.txt": "by text",
        "a/2.json": json.dumps({"url": "", "caption": "by JSON"}),
        "a/2.seg.png": "",
        "b/2.txt": "another folder",
    }
    (tmp_path / "s.tar").write_bytes(tar_of_texts(members))
    path = tmp_path / "s.tar"
    assert texts_of(path) == ["by text", "by JSON", "another folder"]
    assert texts_of(path, "url") == [None, "", None]
    assert texts_of(path, "txt") == ["by text", None, "another folder"]


def test_damaged_statistics_of_a_parquet_file_do_not_abort_the_process() -> None:
    """Pyarrow ends the process where the size statistics of this file's column are asked for."""
    path = Path(__file__).with_name("damaged-statistics.parquet")
    with pytest.raises(ValueError, match=f"^{path}: "):
        in_child(texts_of, path)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_column_name_that_occurs_twice_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"c.{suffix}"
    path.write_text("caption,caption\na,b\n")
    if suffix == "parquet":
        pq.write_table(pa.table([["a"], ["b"]], names=["caption", "caption"]), path)
    for column in (None, "caption"):
        with pytest.raises(ValueError, match="2 columns are named 'caption'"):
            texts_of(path, column)


def test_images_beside_captions_do_not_make_batches_small(tmp_path: Path) -> None:
    beside = {"caption": ["a dog"] * 400, "image": [bytes(100_000)] * 400}
    pq.write_table(
        pa.table(beside), tmp_path / "c.parquet", compression="zstd", use_dictionary=False
    )
    assert [len(batch) for batch in read_caption_batches(tmp_path / "c.parquet", None)] == [400]


def test_texts_of_several_columns_are_those_of_each(tmp_path: Path) -> None:
    columns = {"caption": ["a dog", None, "é", ""], "alt": [["b", "c"], ["d"], [], None]}
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    expected = ["a dog", "b", "c", "d", "é", ""]
    assert texts_of(tmp_path / "c.parquet", "caption;alt") == expected


def test_fields_of_every_format_are_those_that_the_choice_names(tmp_path: Path) -> None:
    rows = [
        {"key": f"k{row}", "a": f"a {row}", "b": f"b {row}", "caption": "not this"}
        for row in range(5)
    ]
    expected = [f"{name} {row}" for row in range(5) for name in ("b", "a")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    (tmp_path / "c.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "c.csv").write_text(
        "\n".join(["key,a,b,caption", *(",".join(row.values()) for row in rows)])
    )
    (tmp_path / "c.tar").write_bytes(
        tar_of_texts({f"k{row}.json": json.dumps(one) for row, one in enumerate(rows)})
    )
    for suffix in ("parquet", "jsonl", "csv", "tar"):
        assert texts_of(tmp_path / f"c.{suffix}", "b;a") == expected, suffix
        if suffix != "tar":
            with pytest.raises(
                ValueError, match="no column named 'captoin'; did you mean 'caption'"
            ):
                texts_of(tmp_path / f"c.{suffix}", "captoin")
