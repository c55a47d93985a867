"""A page of 500 runs can be sent: under 2 MB, built without a deep-learning framework."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.config import change
from bench.record import Record
from reports.page import page
from tests.reports.built import frameworks_imported

Make = dict[str, Callable[..., Any]]
LARGEST = 2_000_000  # bytes


def renamed(record: Record, number: int) -> Record:
    """The same run of an experiment with another learning rate, under a name of its own."""
    assert record.experiment is not None
    name = f"{record.experiment.name}[learning_rate={number}e-5]"
    experiment = change(record.experiment, name=name, learning_rate=1e-5 * number)
    measured = record.measured
    if hasattr(measured, "subject"):
        measured = replace(measured, subject=name)
    return replace(record, experiment=experiment, measured=measured)


def many_rounds_and_seeds(make: Make) -> list[Record]:
    """Four experiments: 60 rounds, 13 seeds."""
    return list(make["whole"](rounds=60, seeds=13))


def many_experiments(make: Make) -> list[Record]:
    """Eighty experiments: five rounds, memory and a training each."""
    one = [r for r in make["whole"](rounds=5) if r.experiment is not None and r.experiment.name == "catlip-tiny"]
    kept = [r for r in one if not hasattr(r.measured, "scores")]
    return [renamed(record, number) for number in range(1, 81) for record in kept]


def test_a_page_of_80_experiments_is_under_2_mb(make: Make) -> None:
    records = many_experiments(make)
    assert len(records) >= 498
    assert len(page("many", records, documents={"suites.json": make["suites"]()}).encode()) < LARGEST


def test_a_page_of_many_rounds_and_seeds_is_under_2_mb_and_drawn_without_torch(make: Make, tmp_path: Path) -> None:
    records = many_rounds_and_seeds(make)
    assert len(records) >= 498
    results = make["written"](records, tmp_path)
    (results / "suites.json").write_bytes(make["suites"]())
    assert frameworks_imported(results) == ""
    assert (results / "index.html").stat().st_size < LARGEST
