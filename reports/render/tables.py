"""Tables of a page: text to show, values to sort by, and the reason of each empty cell. No figures are derived here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.statistics import Estimate, Ratio
from reports.render.formats import UNMEASURED, format_interval
from reports.render.frames import ComparisonRecords

V = TypeVar("V", float, int, str)
NOT_MEASURED = "not measured: "  # prefix of the reason of a cell that could have a figure
UNTIMED = "its speed was not measured"
IS_BASE = "it is the base of the ratios"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell; `note` is small print beneath the text."""

    text: str
    note: str = ""
    sort: float | str | None = None
    why: str = ""  # the reason of an empty cell
    anchor: str = ""  # id of the section with the details

    @staticmethod
    def of(value: V, write: Callable[[V], str] = str, note: str = "") -> "Cell":
        """Return the cell of a value that is known, sorted by it."""
        return Cell(write(value), note, value)

    @staticmethod
    def unmeasured(why: str) -> "Cell":
        """Return the cell of a figure that was not measured, which differs from zero."""
        return Cell(UNMEASURED, why=NOT_MEASURED + why)

    @staticmethod
    def not_applicable(why: str) -> "Cell":
        """Return the cell of a figure that cannot exist."""
        return Cell(UNMEASURED, why=why)

    @staticmethod
    def figure(value: float | None, write: Callable[[float], str], why: str) -> "Cell":
        """Return the cell of a figure, or the reason why it was not measured."""
        return Cell.unmeasured(why) if value is None else Cell.of(value, write)

    @staticmethod
    def estimate(found: Estimate | Ratio | None, write: Callable[[float], str], why: str = "") -> "Cell":
        """Return the cell of a figure with its interval beneath, or the reason why it cannot exist."""
        if found is None:
            return Cell.not_applicable(why)
        unit_of_repetition = found.over if isinstance(found, Estimate) else ""
        return Cell.of(found.value, write, format_interval(found, write) or unit_of_repetition)

    @staticmethod
    def of_name(label: str, name: str) -> "Cell":
        """Return the cell that names a row: its label, with the experiment's name beneath where that differs."""
        return Cell.of(label, note="" if label == name else name)


@dataclass(frozen=True, slots=True)
class Column:
    """One column; numeric columns are right-aligned."""

    title: str
    note: str = ""
    numeric: bool = True

    @staticmethod
    def text(title: str, note: str = "") -> "Column":
        """Return a left-aligned column."""
        return Column(title, note, numeric=False)

    @staticmethod
    def texts(*titles: str) -> "list[Column]":
        """Return left-aligned columns without notes."""
        return list(map(Column.text, titles))


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table whose first column names its rows."""

    name: str  # for screen readers
    columns: Sequence[Column]
    groups: Mapping[str, Sequence[Sequence[Cell]]]  # rows by heading; sorting keeps those of a group together

    @property
    def rows(self) -> list[Sequence[Cell]]:
        """The rows of all groups."""
        return [row for rows in self.groups.values() for row in rows]

    @staticmethod
    def of_rows(name: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> "HtmlTable":
        """Return a table of one group without a heading."""
        return HtmlTable(name, columns, {"": rows})

    @staticmethod
    def of_groups(name: str, columns: Sequence[Column], groups: Mapping[str, Sequence[Sequence[Cell]]]) -> "HtmlTable":
        """Return a table of the groups that have rows, by their headings."""
        return HtmlTable(name, columns, {title: rows for title, rows in groups.items() if rows})


BASE_CELL = Cell("1", "base", 1)  # the ratio of the base to itself


def experiment_cell(comparison: ComparisonRecords, name: str) -> Cell:
    """Return the cell that names a row by its experiment."""
    return Cell.of_name(comparison.label(name), name)
