"""Pages drawn from kept records show the figures that commit e61a643 drew from them.

`figures_of_e61a643.json` holds every number in the tables of its pages, in the order of the page;
at its end are later figures: the HFU, and those of explain-tiny without its disturbed rounds. FLOPs of a step count
all products of the losses, as every record does.
"""

import json
import re
from pathlib import Path

import pytest

from reports.__main__ import main
from tests.reports.test_page import Document

RECORDS = Path(__file__).parents[1] / "records"
FIGURES = json.loads(Path(__file__).with_name("figures_of_e61a643.json").read_text())
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e-?\d+)?|-?\.\d+")


def numbers(text: str) -> list[float]:
    """Return the numbers of a text, however they are written: .506 is 0.506."""
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def figures(page: Path) -> list[float]:
    tables = Document(page.read_text()).tables.values()
    return [number for rows in tables for row in rows for cell in row for number in numbers(cell)]


@pytest.mark.parametrize("command", FIGURES)
def test_figures_of_kept_records_do_not_change(command: str, tmp_path: Path) -> None:
    verb, folder = command.split()
    assert main([verb, str(RECORDS / folder), "--out", str(tmp_path / "page.html")]) == 0
    shown, expected = figures(tmp_path / "page.html"), numbers(FIGURES[command])
    assert (len(shown), sorted(shown)) == (len(expected), sorted(expected))
