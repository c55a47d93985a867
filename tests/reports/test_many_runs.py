"""A page of 500 runs can be sent: under 2 MB, built without a deep-learning framework."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.record import Record
from reports.page import page
from tests.reports.built import frameworks_imported

Make = dict[str, Callable[..., Any]]
LARGEST = 2_000_000  # bytes


def renamed(record: Record, number: int) -> Record:
    """The same run of an experiment with another learning rate, under a name of its own."""
    assert record.experiment is not None
    name = f"{record.experiment.name}[learning_rate={number}e-5]"
    experiment = replace(record.experiment, name=name, learning_rate=1e-5 * number)
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


@pytest.mark.parametrize("records_of", [many_rounds_and_seeds, many_experiments])
def test_a_page_of_500_runs_is_under_2_mb(make: Make, records_of: Callable[[Make], list[Record]]) -> None:
    records = records_of(make)
    assert len(records) >= 498
    assert len(page("many", records, suites=make["suites"]()).encode()) < LARGEST


def test_500_runs_are_drawn_without_torch(make: Make, tmp_path: Path) -> None:
    results = make["written"](make["whole"](rounds=119), tmp_path)
    assert frameworks_imported(results) == ""
    assert (results / "index.html").stat().st_size < LARGEST
