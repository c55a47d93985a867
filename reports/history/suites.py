"""A document of pytest-benchmark -> a table of the times of components."""

from pathlib import Path

from bench.history.quantities import format_duration
from bench.history.suite_documents import Document, parse_document
from reports.render.tables import Cell, Column, Group, HtmlTable

FILE = "suites.json"


def read_suites(results: Path) -> bytes | None:
    """Return the bytes of the document; None where the folder has none."""
    path = results / FILE
    return path.read_bytes() if path.is_file() else None


def suites_of(document: bytes) -> Document:
    """Decode the document; raise ValueError for one of another kind."""
    return parse_document(document, FILE)


def suites_table(suites: Document) -> HtmlTable:
    """Show median and interquartile range of each benchmark by group."""
    columns = [
        Column.text("benchmark"),
        Column("median"),
        Column("IQR", "interquartile range"),
        Column("rounds"),
    ]
    groups: dict[str, list[list[Cell]]] = {}
    for one in sorted(suites.benchmarks, key=lambda one: (one.group or "", one.name)):
        row = [
            Cell.of(one.name),
            Cell.of(one.stats.median, format_duration),
            Cell.of(one.stats.iqr, format_duration),
            Cell(f"{one.stats.rounds:,}", "", one.stats.rounds),
        ]
        groups.setdefault(one.group or "no group", []).append(row)
    return HtmlTable(
        "Components, timed by pytest-benchmark", columns, [Group(name, rows) for name, rows in groups.items()]
    )
