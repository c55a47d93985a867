"""What a table on the page is: text to show, values to sort by, and why a cell is empty. No figures are made here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.statistics import Ratio
from reports.accuracy.scores import Estimate
from reports.render.formats import UNMEASURED, span

NOT_MEASURED = "not measured: "  # before the reason of a cell that could have a figure


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell; `note` stands small beneath the text."""

    text: str
    note: str = ""
    sort: float | str | None = None
    why: str = ""  # of an empty cell: why it is one
    anchor: str = ""  # the place on the page that tells more


@dataclass(frozen=True, slots=True)
class Column:
    """One column; numbers are set to the right."""

    title: str
    note: str = ""
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading; sorting stays inside."""

    title: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows."""

    name: str  # what it is called where it is only heard
    columns: Sequence[Column]
    groups: Sequence[Group]
    caption: str = ""
    sortable: bool = field(default=True)


def missing(why: str) -> Cell:
    """Return the cell of a figure that was not measured, which is not zero."""
    return Cell(UNMEASURED, why=NOT_MEASURED + why)


def absent(why: str) -> Cell:
    """Return the cell of a figure that there cannot be."""
    return Cell(UNMEASURED, why=why)


def figure(value: float | None, write: Callable[[float], str], why: str, note: str = "") -> Cell:
    """Return a figure's cell, or say why there is none."""
    return missing(why) if value is None else Cell(write(value), note, value)


def ratio_cell(ratio: Ratio | None, write: Callable[[float], str], why: str) -> Cell:
    """Return a ratio with its interval beneath."""
    if ratio is None:
        return absent(why)
    note = "" if ratio.low is None or ratio.high is None else span(ratio.low, ratio.high, write)
    return Cell(write(ratio.value), note, ratio.value)


def estimate_cell(estimate: Estimate | None, write: Callable[[float], str], why: str) -> Cell:
    """Return an accuracy or a gain with its interval beneath."""
    if estimate is None:
        return absent(why)
    known = estimate.low is not None and estimate.high is not None
    note = span(estimate.low, estimate.high, write) if known else estimate.over  # type: ignore[arg-type]
    return Cell(write(estimate.value), note, estimate.value)


def named(comparison_label: str, name: str) -> Cell:
    """Return the cell that names a row: what it is called, the experiment's name beneath where that differs."""
    return Cell(comparison_label, "" if comparison_label == name else name, comparison_label)


def plain(name: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], caption: str = "") -> Table:
    """Return a table of one group without a heading."""
    return Table(name, columns, [Group("", rows)], caption)
