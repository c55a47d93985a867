"""Each promise of the table names a test that there is."""

import re
from pathlib import Path

import pytest

from tests.chaos.harness import PARTS

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:-1] for line in TABLE.splitlines() if line.startswith("|")][2:]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_every_documented_guarantee_names_an_existing_test(row: list[str]) -> None:
    what, _, shown_by = row
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown_by)
    assert tests, f"{what} is not tested"
    for file, name in tests:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), f"{file}::{name}"
    assert set(re.findall(r"part `(\w+)`", shown_by)) <= PARTS.keys()


def test_every_part_is_documented_and_most_back_a_guarantee() -> None:
    assert all(f"`{part}`" in TABLE for part in PARTS)
    assert len(ROWS) >= 20
