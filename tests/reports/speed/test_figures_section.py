from pathlib import Path

from bench.measure.figures import extension_measurement_tables
from bench.records.record import read_records
from reports.page import render_comparison_page
from tests.measure.test_figures import NAMES, records_of
from tests.reports.test_page import Document

VALUES = {
    "clip-tiny": {"a": 10.0, "b": 5.0},
    "catlip-tiny": {"a": 20.0, "b": 5.0},
    "siglip-tiny": {"a": 9.0, "b": 4.0},
}


def test_page_has_the_figures_of_measurements_and_their_verdicts() -> None:
    records = records_of(VALUES)
    text = render_comparison_page("c", records)
    (printed,) = extension_measurement_tables(records, NAMES)
    shown = Document(text).tables[printed.title]
    assert sorted(row[:2] for row in shown[1:]) == sorted(
        [row["figure"], row["experiment"]] for row in printed.rows
    )
    assert {"better", "worse"} <= {cell for row in shown for cell in row}


def test_page_without_measurements_has_no_such_section() -> None:
    records = read_records(Path(__file__).parents[2] / "records", "20261125T160151-smoke")
    assert 'id="figures"' not in render_comparison_page("c", records)
