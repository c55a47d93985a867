"""Building the page from kept records."""

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.records.record import comparisons, read_records
from reports.page import page

RECORDS = Path(__file__).parents[2] / "tests" / "records"


@pytest.mark.benchmark(group="reports")
def test_page_of_a_smoke_run(benchmark: BenchmarkFixture) -> None:
    name = comparisons(RECORDS)[-1]
    records = read_records(RECORDS, name)
    text = benchmark(page, name, records)
    benchmark.extra_info["records"] = len(records)
    benchmark.extra_info["bytes"] = len(text.encode())
