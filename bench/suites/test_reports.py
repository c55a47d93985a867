"""Building the page from kept records, and one of 500 runs in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from pytest_benchmark.fixture import BenchmarkFixture

from bench.records.record import Speed, comparisons, read_records, record_path, write_record
from reports.page import page

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "tests" / "records"
RUNS, SECONDS = 500, 5.0


@pytest.mark.benchmark(group="reports")
def test_page_of_a_smoke_run(benchmark: BenchmarkFixture) -> None:
    name = comparisons(RECORDS)[-1]
    records = read_records(RECORDS, name)
    text = benchmark(page, name, records)
    benchmark.extra_info["records"] = len(records)
    benchmark.extra_info["bytes"] = len(text.encode())


@pytest.mark.minutes
@pytest.mark.benchmark(group="reports")
def test_page_of_500_runs_from_the_command_line(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Imports, reading and writing are in it."""
    name = comparisons(RECORDS)[-1]
    records = read_records(RECORDS, name)
    for number, record in enumerate(records):
        write_record(record, record_path(tmp_path, name, "speed", f"kept{number:03}"))
    timed = [record for record in records if isinstance(record.measured, Speed)]
    for number in range(RUNS - len(records)):
        record = timed[number % len(timed)]
        assert isinstance(record.measured, Speed)
        again = replace(record, measured=replace(record.measured, round=1 + number // len(timed)))
        write_record(again, record_path(tmp_path, name, "speed", f"again{number:03}"))
    command = [sys.executable, "-m", "reports", "build", str(tmp_path)]
    benchmark.pedantic(subprocess.run, (command,), {"check": True, "cwd": ROOT}, rounds=3)  # type: ignore[no-untyped-call]
    benchmark.extra_info["bytes"] = (tmp_path / "index.html").stat().st_size
    if benchmark.stats is not None:  # None: timing is switched off
        assert benchmark.stats.stats.median < SECONDS
