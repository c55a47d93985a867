"""Labelled parquet files of the Hugging Face hub are tasks: what is written is read, and what disagrees is named."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.interfaces.catalog import DEFAULT_ROOT_TASK, TASKS
from bench.transfer.tasks.parquet_tasks import parquet_task
from tests.transfer.trees import COLOURS, colours, encode, hub_table, sizes

NAMES = [*COLOURS]


def save(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)
    return path


def hub(root: Path, parts: dict[str, int]) -> Path:
    """A data set in the hub's layout, in two files per part, with so many images of every colour in each part."""
    for part, size in parts.items():
        rows = NAMES * size
        for number, half in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
            table = hub_table(half, [NAMES.index(colour) for colour in half])
            save(root / f"data/{part}-{number:05}-of-00002.parquet", table)
    return root


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"train": 8, "validation": 2, "test": 4}, (24, 6, 12)),
        ({"train": 8, "validation": 2}, (18, 6, 6)),
        ({"train": 20}, (36, 12, 12)),
    ],
)
@pytest.mark.parametrize("name", ["parquet", DEFAULT_ROOT_TASK])
def test_splits_of_the_hub_are_the_parts_of_a_task(
    name: str, there: dict[str, int], expected: tuple[int, int, int], tmp_path: Path
) -> None:
    task = TASKS[name].load(hub(tmp_path / "set", there), tmp_path)
    assert (task.name, task.classes, sizes(task)) == ("set", tuple(NAMES), expected)
    for part in (task.train, task.validation, task.test):
        assert [task.classes[label] for label in part.labels] == colours(part)


def texts(colours: list[str]) -> pa.Table:
    return hub_table(colours, colours, None)


def dictionary(colours: list[str]) -> pa.Table:
    table = texts(colours)
    return table.set_column(1, "label", table["label"].dictionary_encode())


def numbers(colours: list[str]) -> pa.Table:
    return hub_table(colours, [sorted(NAMES).index(colour) for colour in colours], None)


def plain_bytes(colours: list[str]) -> pa.Table:
    return pa.table({"png": [encode(colour) for colour in colours], "cls": colours})


@pytest.mark.parametrize("write", [texts, dictionary, numbers, plain_bytes])
def test_labels_without_names_are_texts_or_numbers(
    write: Callable[[list[str]], pa.Table], tmp_path: Path
) -> None:
    save(tmp_path / "set/train/0000.parquet", write(NAMES * 8))
    save(tmp_path / "set/test/0000.parquet", write(NAMES * 4))
    task = parquet_task(tmp_path / "set", tmp_path)
    assert task.classes == (("0", "1", "2") if write is numbers else tuple(sorted(NAMES)))
    assert [sorted(NAMES)[label] for label in task.test.labels] == colours(task.test) == NAMES * 4


def test_files_of_no_split_are_one_part_that_is_split(tmp_path: Path) -> None:
    save(tmp_path / "set/mine.parquet", texts(NAMES * 20))
    assert sizes(parquet_task(tmp_path / "set", tmp_path)) == (36, 12, 12)


def test_split_without_labels_and_file_of_no_split_are_left_out_and_reported(
    tmp_path: Path,
) -> None:
    root = hub(tmp_path / "set", {"train": 8, "validation": 2})
    save(root / "data/test-00000-of-00001.parquet", hub_table(NAMES, [-1, -1, -1]))
    save(root / "data/unlabeled-00000-of-00001.parquet", hub_table(NAMES, [-1, -1, -1]))
    task = parquet_task(root, tmp_path)
    assert sizes(task) == (18, 6, 6)
    assert (
        task.notes[0]
        == "set: unlabeled-00000-of-00001.parquet has the name of no split and is left out"
    )
    assert task.notes[1] == "set: the test part has no labels and is left out"


def test_unreadable_images_are_counted_named_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "set"
    table = hub_table(NAMES * 60, [0, 1, 2] * 60)
    images = table["image"].to_pylist()
    images[7] = {"bytes": None, "path": "7.png"}
    save(root / "train.parquet", table.set_column(0, "image", pa.array(images)))
    save(root / "test.parquet", hub_table(NAMES * 4, [0, 1, 2] * 4))
    task = parquet_task(root, tmp_path)
    assert sum(sizes(task)[:2]) == 179
    assert (
        f"1 of 180 images cannot be read ({root}/train.parquet: row 7: no bytes)" in task.notes[0]
    )


def of_parts(table: pa.Table, *parts: str) -> Callable[[Path], object]:
    """Write a table as each of the parts."""
    return lambda root: [save(root / f"{part}-0.parquet", table) for part in parts]


def other_classes(root: Path) -> None:
    save(root / "data/train-0.parquet", hub_table(NAMES, [0, 1, 2]))
    save(root / "data/test-0.parquet", hub_table(NAMES, [0, 1, 2], ["blue", "green", "red"]))


def truncated(root: Path) -> None:
    path = save(root / "data/train-0.parquet", hub_table(NAMES, [0, 1, 2]))
    path.write_bytes(path.read_bytes()[:-20])


TRAIN, TEST, LABELLED = "data/train", "data/test", hub_table(NAMES, [0, 1, 2])
OUTSIDE = r"train-0.parquet: row 2 has the label {}, which is none of 3 classes, red, green, blue"


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            of_parts(pa.table({"label": [0, 1]}), TRAIN),
            r"train-0.parquet: no column holds images as bytes \(there are label\)",
        ),
        (
            of_parts(pa.table({"image": [encode("red")], "text": ["red"]}), TRAIN),
            r"train-0.parquet: no column of labels \(label, .*\) among image, text; expected is SPLIT-",
        ),
        (of_parts(hub_table(NAMES * 8, [0, 1, 3] * 8), TRAIN, TEST), OUTSIDE.format(3)),
        (of_parts(hub_table(NAMES * 8, [0, 1, None] * 8), TRAIN, TEST), OUTSIDE.format(None)),
        (
            of_parts(hub_table(NAMES, [-1, -1, -1]), TRAIN),
            r"the column label has no label in any part",
        ),
        (other_classes, r"test-0.parquet has other labels or classes than .*train-0.parquet"),
        (
            of_parts(LABELLED, "one/train", "two/train"),
            r"set has train files in several folders, .*one, .*two: name one",
        ),
        (truncated, r"train-0.parquet: "),
        (
            of_parts(LABELLED.replace_schema_metadata({b"huggingface": b"[]"}), TRAIN),
            r"train-0.parquet: the metadata huggingface describes no columns: write the file anew",
        ),
        (Path.mkdir, r"set has no parquet file; expected is SPLIT-"),
    ],
)
def test_invalid_tables_are_refused_with_the_reason(
    spoil: Callable[[Path], object], text: str, tmp_path: Path
) -> None:
    spoil(tmp_path / "set")
    with pytest.raises(ValueError, match=text) as error:
        parquet_task(tmp_path / "set", tmp_path)
    assert "\n" not in str(error.value)


def test_of_several_columns_of_class_labels_one_is_read_and_reported(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save(
            tmp_path / f"set/{part}.parquet",
            hub_table(NAMES * 8, [0, 1, 2] * 8, others=["coarse_label"]),
        )
    task = parquet_task(tmp_path / "set", tmp_path)
    assert colours(task.test) == NAMES * 8
    assert task.notes[0] == "set: classes are read from the column label, not coarse_label"
