"""Exports, each read by its consumer's own reader or held against its schema."""

import csv
import dataclasses
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import replace
from pytest_benchmark.logger import Logger
from pytest_benchmark.storage.file import FileStorage

from bench.experiment.settings import with_settings
from bench.measure.observations import read_observations
from reports.__main__ import main
from reports.exports.exports import WRITERS, Format, export_figures
from tests.documents import document, written

Make = dict[str, Callable[..., Any]]


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


def of(results: Path, form: Format) -> bytes:
    return export_figures(read_observations([results]), form)


def test_pytest_benchmark_reads_and_compares_its_own_format(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["export", str(results), "--format", "pytest-benchmark", "--out", str(out)]) == 0
    (tmp_path / "storage").mkdir()
    (loaded,) = FileStorage(tmp_path / "storage", Logger()).load(str(out))
    assert loaded[1]["commit_info"]["id"] == "b" * 40
    stats = {one["name"]: one["stats"] for one in loaded[1]["benchmarks"]}
    assert stats["test_a"]["rounds"] == 3
    assert stats["test_b[x/y]"]["median"] == 2.0
    again = shutil.copy(out, tmp_path / "again.json")
    command = [
        sys.executable,
        "-c",
        "from pytest_benchmark.cli import main; main()",
        "compare",
        str(out),
        str(again),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "test_a" in done.stdout
    assert not done.stderr
    assert read_observations([out])[0].machine == read_observations([results])[0].machine


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_pandas_reads_every_figure_of_every_commit(results: Path, form: Format) -> None:
    read = pd.read_csv if form == "csv" else pd.read_parquet
    frame = read(io.BytesIO(of(results, form)))
    assert len(frame) == 2 * 3 * 2 * 3  # commits, processes, benchmarks, measures
    assert set(frame["unit"].dropna()) - {""} == {"s", "B"}
    figures = read_observations([results])
    assert sorted(frame["value"]) == sorted(figure.value for figure in figures)


def test_csv_names_the_settings_in_which_an_experiment_differs_from_its_name(
    tmp_path: Path, make: Make
) -> None:
    speed = make["speed"]("clip-tiny", 0)
    own = replace(speed, experiment=with_settings(speed.experiment, ["data=shards", "seed=3"]))
    frame = pd.read_csv(io.BytesIO(of(make["written"]([speed, own], tmp_path), "csv")))
    assert {*frame["changed_settings"].fillna("")} == {"", "data=shards"}
    assert {*frame["seed"]} == {0, 3}


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
        for one in read_observations([results])
    ]
    content = io.StringIO(export_figures(figures, "csv").decode(), newline="")
    rows = list(csv.DictReader(content))
    assert rows
    for row in rows:
        assert [row[column] for column in ("name", "settings_digest", "machine")] == [
            f"'{text}"
        ] * 3
        assert float(row["value"]) < 0
        assert not row["value"].startswith("'")


def test_unsupported_export_is_refused_with_the_reason(tmp_path: Path, make: Make) -> None:
    memory = make["written"]([make["memory"]("clip-tiny")], tmp_path / "memory")
    with pytest.raises(ValueError, match="needs times, and there are none"):
        of(memory, "pytest-benchmark")
    written(tmp_path / "two", document({"test_a": 1}), document({"test_a": 1}, machine="there"))
    with pytest.raises(ValueError, match="measured on several machines"):
        of(tmp_path / "two", "pytest-benchmark")
    assert len(pd.read_csv(io.BytesIO(of(tmp_path / "two", "csv")))) == 2


def test_exports_are_reproducible_without_nan(results: Path) -> None:
    for form in WRITERS:
        assert of(results, form) == of(results, form)
    json.loads(of(results, "pytest-benchmark"), parse_constant=pytest.fail)
