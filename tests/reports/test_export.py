"""The csv file of all figures."""

import csv
import dataclasses
import io
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.experiment.settings import renamed_with_settings
from bench.measure.metric_values import MetricValue, read_metric_values
from reports.export import encode_metric_values_as_csv
from tests.documents import document, written
from tests.reports.conftest import speed_record, training_record, write_records


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Documents of two commits, three processes each."""
    draw = random.Random(0)
    documents = [
        document(
            {"test_a": draw.gauss(0.01, 0.0002), "test_b[x/y]": 2.0},
            commit * 40,
            time=f"2026-11-0{day}T00:00:00Z",
            extra={"peak tensor bytes": 4096, "parameters": 7},
        )
        for day, commit in ((1, "a"), (2, "b"))
        for _ in range(3)
    ]
    return written(tmp_path / "results", *documents)


def exported(figures: Sequence[MetricValue]) -> list[dict[str, str]]:
    text = io.StringIO(encode_metric_values_as_csv(figures).decode(), newline="")
    return list(csv.DictReader(text))


def test_every_figure_of_every_commit_is_a_row(results: Path) -> None:
    figures = read_metric_values([results], [])
    rows = exported(figures)
    assert len(rows) == 2 * 3 * 2 * 3  # commits, processes, benchmarks, measures
    assert {row["unit"] for row in rows} == {"s", "B", ""}
    assert sorted(float(row["value"]) for row in rows) == sorted(fig.value for fig in figures)


def test_csv_names_experiments_with_their_settings_and_seeds(tmp_path: Path) -> None:
    speed = speed_record("clip-tiny", 0)
    own = replace(
        speed, experiment=renamed_with_settings(speed.experiment, ["data=shards", "seed=3"])
    )
    rows = exported(read_metric_values([write_records([speed, own], tmp_path)], []))
    experiments = {(row["experiment"], row["seed"]) for row in rows}
    assert experiments == {("clip-tiny", "0"), ("clip-tiny[data=shards]", "3")}


def test_export_reads_the_records_of_the_page_and_all_documents_below(results: Path) -> None:
    speeds = [speed_record("clip-tiny", 0), training_record("clip-tiny", 0)]
    training = [replace(record, comparison="2-train") for record in speeds]
    write_records(speeds[:1], results)
    write_records(training, results / "train-clip")
    write_records(speeds[:1], results / "train-clip" / "older")
    (results / "000.json").rename(results / "train-clip" / "older" / "000.json")
    rows = exported(read_metric_values([results], []))
    assert sum(row["measure"] == "images per second" for row in rows) == 2
    assert sum(row["name"].endswith("test_a") for row in rows) == 2 * 3 * 3


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\uff1d"])
def test_no_cell_of_a_csv_is_a_formula_and_numbers_are_unchanged(results: Path, start: str) -> None:
    text = f'{start}HYPERLINK("http://127.0.0.1";"a")'
    figures = [
        dataclasses.replace(
            one,
            benchmark=dataclasses.replace(one.benchmark, name=text, settings=text),
            machine=text,
            value=-one.value,
        )
        for one in read_metric_values([results], [])
    ]
    rows = exported(figures)
    assert rows
    for row in rows:
        assert [row[column] for column in ("name", "settings_digest", "machine")] == [
            f"'{text}"
        ] * 3
        assert float(row["value"]) < 0
        assert not row["value"].startswith("'")
