"""The csv file of all figures, as pandas reads it."""

import csv
import dataclasses
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from msgspec.structs import replace

from bench.experiment.settings import with_settings
from bench.measure.observations import read_observations
from reports.render.document import encode_csv
from reports.series import build_history, figures_frame
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


def export(results: Path) -> bytes:
    return encode_csv(figures_frame(build_history(read_observations([results]))))


def test_pandas_reads_every_figure_of_every_commit(results: Path) -> None:
    frame = pd.read_csv(io.BytesIO(export(results)))
    assert len(frame) == 2 * 3 * 2 * 3  # commits, processes, benchmarks, measures
    assert set(frame["unit"].dropna()) == {"s", "B"}
    figures = read_observations([results])
    assert sorted(frame["value"]) == sorted(figure.value for figure in figures)


def test_csv_names_experiments_with_their_settings_and_seeds(tmp_path: Path, make: Make) -> None:
    speed = make["speed"]("clip-tiny", 0)
    own = replace(speed, experiment=with_settings(speed.experiment, ["data=shards", "seed=3"]))
    frame = pd.read_csv(io.BytesIO(export(make["written"]([speed, own], tmp_path))))
    assert {*frame["experiment"]} == {"clip-tiny", "clip-tiny[data=shards]"}
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
    content = io.StringIO(encode_csv(figures_frame(build_history(figures))).decode(), newline="")
    rows = list(csv.DictReader(content))
    assert rows
    for row in rows:
        assert [row[column] for column in ("name", "settings_digest", "machine")] == [
            f"'{text}"
        ] * 3
        assert float(row["value"]) < 0
        assert not row["value"].startswith("'")
