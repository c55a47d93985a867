"""A table: cells with the text to show, the value behind it, and the reason of each empty one. No torch here."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from bench.formats import UNMEASURED, HasEstimate, format_interval

V = TypeVar("V", float, int, str)
NOT_MEASURED = "not measured: "  # prefix of the reason of a cell that could have a figure
MARKED_SYNTAX = re.compile(r"([\\`*_{}\[\]<>|#])")  # of Markdown
# Of a cell that a spreadsheet computes, full-width characters included.
FORMULA_STARTS = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell; `note` is small print beneath the text."""

    text: str
    note: str = ""
    value: float | str | None = None  # to sort by, at full precision
    why: str = ""  # the reason of an empty cell
    anchor: str = ""  # id of the section with the details

    @staticmethod
    def of(value: V, write: Callable[[V], str] = str, note: str = "") -> "Cell":
        """Return the cell of a value that is known."""
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
    def estimate(found: HasEstimate | None, write: Callable[[float], str], why: str = "") -> "Cell":
        """Return the cell of a figure, or the reason why it cannot exist.

        Its interval is beneath, or without one the unit of repetition that it is `over`.
        """
        if found is None:
            return Cell.not_applicable(why)
        return Cell.of(found.value, write, format_interval(found, write) or getattr(found, "over", ""))

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
class Table:
    """A table whose first column names its rows."""

    title: str
    columns: Sequence[Column]
    groups: Mapping[str, Sequence[Sequence[Cell]]]  # rows by heading; sorting keeps those of a group together

    @property
    def rows(self) -> list[Sequence[Cell]]:
        """The rows of all groups."""
        return [row for rows in self.groups.values() for row in rows]

    @staticmethod
    def of_rows(title: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> "Table":
        """Return a table of one group without a heading."""
        return Table(title, columns, {"": rows})

    @staticmethod
    def of_groups(title: str, columns: Sequence[Column], groups: Mapping[str, Sequence[Sequence[Cell]]]) -> "Table":
        """Return a table of the groups that have rows, by their headings."""
        return Table(title, columns, {title: rows for title, rows in groups.items() if rows})

    def to_csv(self) -> bytes:
        """Write values at full precision and an empty cell as nothing, then the notes in columns of their own."""
        noted = [at for at in range(len(self.columns)) if any(row[at].note for row in self.rows)]
        head = [column.title for column in self.columns]
        head += [f"{self.columns[at].title}, {self.columns[at].note or 'note'}" for at in noted]
        rows = ([*map(_figure_or_text, row), *(row[at].note for at in noted)] for row in self.rows)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [defuse(value) for value in row] for row in chain[Sequence[object]]([head], rows)
        )
        return text.getvalue().encode()

    def to_markdown(self) -> str:
        """Write texts, each with its note in brackets."""

        def line(cells: Sequence[str]) -> str:
            return f"| {' | '.join(cells)} |"

        rows = [
            [escape_markdown(f"{cell.text} ({cell.note})" if cell.note else cell.text) for cell in row]
            for row in self.rows
        ]
        head = [column.title for column in self.columns]
        return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _figure_or_text(cell: Cell) -> object:
    if cell.value is not None:
        return cell.value
    return "" if cell.why else cell.text


def escape_markdown(text: str) -> str:
    """Escape a text for Markdown, on one line."""
    return MARKED_SYNTAX.sub(r"\\\1", " ".join(text.split()))


def defuse(cell: object) -> object:
    """Begin a text that a spreadsheet would compute with an apostrophe; numbers are unchanged.

    Source: OWASP, "CSV Injection".
    """
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA_STARTS) else cell
