"""Tables of a page: text to show, values to sort by, and the reason of each empty cell. No figures are derived here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.statistics import Estimate, Ratio
from reports.render.formats import UNMEASURED, span

V = TypeVar("V", float, int, str)
NOT_MEASURED = "not measured: "  # prefix of the reason of a cell that could have a figure


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell; `note` is small print beneath the text."""

    text: str
    note: str = ""
    sort: float | str | None = None
    why: str = ""  # the reason of an empty cell
    anchor: str = ""  # id of the section with the details


@dataclass(frozen=True, slots=True)
class Column:
    """One column; numeric columns are right-aligned."""

    title: str
    note: str = ""
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading; sorting keeps them together."""

    title: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class HtmlTable:
    """A table whose first column names its rows."""

    name: str  # for screen readers
    columns: Sequence[Column]
    groups: Sequence[Group]


def text_columns(*titles: str) -> list[Column]:
    """Return left-aligned columns without notes."""
    return [Column(title, numeric=False) for title in titles]


def ungrouped_table(name: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> HtmlTable:
    """Return a table of one group without a heading."""
    return HtmlTable(name, columns, [Group("", rows)])


def value_cell(value: V, write: Callable[[V], str] = str, note: str = "") -> Cell:
    """Return the cell of a value that is known, sorted by it."""
    return Cell(write(value), note, value)


def missing_cell(why: str) -> Cell:
    """Return the cell of a figure that was not measured, which differs from zero."""
    return Cell(UNMEASURED, why=NOT_MEASURED + why)


def absent_cell(why: str) -> Cell:
    """Return the cell of a figure that cannot exist."""
    return Cell(UNMEASURED, why=why)


def figure_cell(value: float | None, write: Callable[[float], str], why: str) -> Cell:
    """Return the cell of a figure, or the reason why it was not measured."""
    return missing_cell(why) if value is None else value_cell(value, write)


def estimate_cell(found: Estimate | Ratio | None, write: Callable[[float], str], why: str) -> Cell:
    """Return the cell of a ratio, an accuracy or a gain, with its interval beneath."""
    if found is None:
        return absent_cell(why)
    if found.low is None or found.high is None:
        return value_cell(found.value, write, found.over if isinstance(found, Estimate) else "")
    return value_cell(found.value, write, span(found.low, found.high, write))


def name_cell(label: str, name: str) -> Cell:
    """Return the cell that names a row: its label, with the experiment's name beneath where that differs."""
    return value_cell(label, note="" if label == name else name)
