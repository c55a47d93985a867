"""A table says the same on a terminal, as Markdown and as JSON."""

import json
from pathlib import Path

import pytest

from bench.console.tables import print_tables
from bench.statistics.accuracies import MeanEstimate
from bench.tables.formats import EMPTY_CELL_TEXT, format_percent, format_quantity, format_ratio
from bench.tables.tables import Cell, Column, Table

EXACT = 1 / 3
COLUMNS = [
    Column.left_aligned("experiment"),
    Column("ratio"),
    Column("rank", "of min"),
    Column("rank", "of max"),
    Column("MFU"),
]
ROWS = [
    [
        Cell.naming_row("CLIP", "clip-tiny"),
        Cell.estimate_or_why(MeanEstimate(EXACT, 0.25, 0.5, "5 seeds"), format_ratio),
        Cell.of(1),
        Cell.of(2),
        Cell.unmeasured("no peak"),
    ],
    [
        Cell.of("=1+1"),
        Cell.of(2.0, format_ratio),
        Cell.of(3),
        Cell.of(4),
        Cell.of(0.5, format_ratio),
    ],
]
TABLE = Table.of_rows("Ratios", COLUMNS, ROWS, "a note")


def test_json_has_the_values_behind_the_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_tables([TABLE], tmp_path / "tables.json")
    figures = json.loads((tmp_path / "tables.json").read_text())["Ratios"]
    assert figures["note"] == "a note"
    assert [row["ratio"] for row in figures["rows"]] == [[EXACT, 0.25, 0.5], 2.0]
    assert [row["MFU"] for row in figures["rows"]] == [None, 0.5]
    shown = capsys.readouterr().out
    assert "CLIP (clip-tiny)" in shown
    assert "0.33 (0.25 to 0.50)" in shown
    assert EMPTY_CELL_TEXT not in shown


def test_terminal_says_beside_each_row_of_a_transposed_table_what_its_figures_mean(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        [Cell.of(name), Cell.of(share, format_percent)]
        for name, share in (("clip", 0.5), ("catlip", 0.0625))
    ]
    columns, note = (
        [Column.left_aligned("experiment"), Column("MFU", "over peak")],
        "words of a long note " * 9,
    )
    print_tables([Table("T", columns, {"": rows}, note, is_transposed=True)])
    title, *shown, first, second = capsys.readouterr().out.rstrip().splitlines()
    assert (title, shown) == ("T", ["                 clip catlip", "MFU, over peak 50.0 %  6.2 %"])
    assert max(len(first), len(second)) <= 120
    assert f"{first} {second}" == note.strip()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (2.5e-9, "s", "2.5 ns"),
        (3 * 2**20, "B", "3 MiB"),
        (12_345_678.0, "", "12,345,678"),
        (5.2e9, "FLOP", "5.2 GFLOP"),
        (4.123456789, "nats", "4.12346 nats"),
    ],
)
def test_quantities_are_formatted_with_their_unit(value: float, unit: str, text: str) -> None:
    assert format_quantity(value, unit) == text
