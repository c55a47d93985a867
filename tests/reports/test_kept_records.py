"""Pages drawn from kept records show the figures in `kept_figures.json`.

The file holds every number in the tables of the pages, in the order of the page. Where a rule for figures changes,
`python -m tests.reports.test_kept_records` writes it anew, and its difference shows which figures the rule changed.
"""

import json
import re
import tempfile
from pathlib import Path

import pytest

from tests.report_command import main
from tests.reports.test_page import Document

RECORDS = Path(__file__).parents[1] / "records"
KEPT = Path(__file__).with_name("kept_figures.json")
FIGURES = json.loads(KEPT.read_text())
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e-?\d+)?|-?\.\d+")


def numbers(text: str) -> list[float]:
    """Return the numbers of a text, however they are written: .506 is 0.506."""
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def figures(command: str, folder: Path) -> list[float]:
    """Draw a page of the kept records and return the numbers of its tables."""
    verb, records = command.split()
    assert main([verb, str(RECORDS / records), "--out", str(folder / "page.html")]) == 0
    tables = Document((folder / "page.html").read_text()).tables.values()
    return [number for rows in tables for row in rows for cell in row for number in numbers(cell)]


@pytest.mark.parametrize("command", FIGURES)
def test_figures_of_kept_records_do_not_change(command: str, tmp_path: Path) -> None:
    shown, expected = figures(command, tmp_path), FIGURES[command]
    assert (len(shown), sorted(shown)) == (len(expected), sorted(expected))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        drawn = {command: figures(command, Path(folder)) for command in FIGURES}
    KEPT.write_text(json.dumps(drawn).replace("], ", "],\n") + "\n")
