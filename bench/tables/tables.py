"""Tables for terminals, pages, CSV and JSON: texts, and the values or reasons behind them. No torch here."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from bench.tables.formats import UNMEASURED, HasEstimate, Number, format_interval

V = TypeVar("V", float, int, str)
NOT_MEASURED = "not measured: "  # prefix of the reason of a cell that could have a figure
# Of a cell that a spreadsheet computes, full-width characters included.
FORMULA_STARTS = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell; `note` is small print beneath the text."""

    text: str
    note: str = ""
    value: Any = None  # a number or a string to sort by, at full precision
    why: str = ""  # the reason of an empty cell
    anchor: str = ""  # id of the section with the details
    interval: tuple[Number | None, Number | None] | None = None  # ends

    @property
    def figure_or_text(self) -> Any:
        """The value, with its interval where it has one; without a value the text, None for an empty cell."""
        if self.interval is not None:
            return (self.value, *self.interval)
        if self.value is None and self.text != UNMEASURED:
            return self.text
        return self.value

    @property
    def text_with_note(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text

    @staticmethod
    def plain(value: Any) -> "Cell":
        """Return the cell of a number, a text, a number with the ends of its interval, or None."""
        if isinstance(value, tuple):
            figure, low, high = value
            text = Cell.plain(figure).text
            if low is not None:
                half_width = (high - low) / 2
                text = f"{figure:.3f} ±{half_width:.3f}"
            return Cell(text, value=figure, interval=(low, high))
        if value is None or value != value:  # noqa: PLR0124 - NaN
            return Cell(UNMEASURED)
        text = str(value)
        if isinstance(value, float):
            text = f"{value:.3f}" if value < 10 else f"{value:,.1f}"  # noqa: PLR2004
        elif isinstance(value, int):
            text = f"{value:,}"
        return Cell(text, value=value)

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
    def measured(value: Number | None, write: Callable[[float], str], why: str) -> "Cell":
        """Return the cell of a figure, or the reason why it was not measured."""
        if value is None:
            return Cell.unmeasured(why)
        return Cell.of(value, write)

    @staticmethod
    def applicable(value: V | None, write: Callable[[V], str], why: str) -> "Cell":
        """Return the cell of a figure or a text, or the reason why it cannot exist."""
        if value is None:
            return Cell.not_applicable(why)
        return Cell.of(value, write)

    @staticmethod
    def estimate(
        figure: HasEstimate | None, write: Callable[[float], str], why: str = ""
    ) -> "Cell":
        """Return the cell of a figure, or the reason why it cannot exist.

        Its interval is beneath, or without one the unit of repetition that it is `over`.
        """
        if figure is None:
            return Cell.not_applicable(why)
        text = write(figure.value)
        note = format_interval(figure, write) or getattr(figure, "over", "")
        return Cell(text, note, figure.value, interval=(figure.low, figure.high))

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

    @property
    def title_with_note(self) -> str:
        return f"{self.title}, {self.note}" if self.note else self.title

    @staticmethod
    def text(title: str, note: str = "") -> "Column":
        """Return a left-aligned column."""
        return Column(title, note, numeric=False)

    @staticmethod
    def texts(*titles: str) -> "list[Column]":
        """Return left-aligned columns without notes."""
        return [Column.text(title) for title in titles]


NO_CELL = Cell(UNMEASURED)  # of a row that lacks a column


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows."""

    title: str
    columns: Sequence[Column]
    # Rows by heading; sorting keeps those of a group together.
    groups: Mapping[str, Sequence[Sequence[Cell]]]
    note: str = ""  # below it
    # A terminal shows each row as a column: for many values of few experiments.
    is_transposed: bool = False

    @staticmethod
    def of_rows(
        title: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], note: str = ""
    ) -> "Table":
        """Return a table of one group without a heading."""
        return Table(title, columns, {"": rows}, note)

    @staticmethod
    def of_groups(
        title: str,
        columns: Sequence[Column],
        groups: Mapping[str, Sequence[Sequence[Cell]]],
        note: str = "",
    ) -> "Table":
        """Return a table of the groups that have rows, by their headings."""
        filled_groups = {heading: rows for heading, rows in groups.items() if rows}
        return Table(title, columns, filled_groups, note)

    @staticmethod
    def of_figures(
        title: str,
        rows: Sequence[Mapping[str, Any]],
        note: str = "",
        *,
        is_transposed: bool = False,
    ) -> "Table":
        """Return a table of rows that map columns to what `Cell.plain` takes; a row may lack columns."""
        keys = list(dict.fromkeys(chain.from_iterable(rows)))
        columns = []
        for key in keys:
            has_text = any(isinstance(row.get(key), str) for row in rows)
            columns.append(Column(key, numeric=not has_text))
        cells = []
        for row in rows:
            cell_by_key = {key: Cell.plain(value) for key, value in row.items()}
            cells.append([cell_by_key.get(key, NO_CELL) for key in keys])
        return Table(title, columns, {"": cells}, note, is_transposed)

    @property
    def cells(self) -> list[Sequence[Cell]]:
        return list(chain.from_iterable(self.groups.values()))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The values of the rows by column, and their headings where they have any."""
        names, rows = self.flat()
        value_rows = []
        for row in rows:
            values = {}
            for name, cell in zip(names, row, strict=True):
                if cell is not NO_CELL:
                    values[name] = cell.figure_or_text
            value_rows.append(values)
        return value_rows

    @property
    def names(self) -> list[str]:
        """The names of columns, of which no two are equal."""
        titles = [column.title for column in self.columns]
        names = []
        for column in self.columns:
            is_repeated = titles.count(column.title) > 1
            names.append(column.title_with_note if is_repeated else column.title)
        return names

    def flat(self) -> tuple[list[str], list[list[Cell]]]:
        """Return names of columns and rows; headings are a column of their own."""
        if not any(self.groups):
            return self.names, [list(row) for row in self.cells]
        rows = []
        for heading, group in self.groups.items():
            rows += [[Cell.of(heading), *row] for row in group]
        return ["group", *self.names], rows

    def to_csv(self) -> bytes:
        """Write values at full precision and an empty cell as nothing, with ends of intervals and other notes."""
        names, rows = self.flat()
        columns = dict[str, list[Any]]()
        for name, *cells in zip(names, *rows, strict=True):
            columns[name] = [cell.value if cell.interval else cell.figure_or_text for cell in cells]
            if any(cell.interval for cell in cells):
                bounds = [cell.interval or ("", "") for cell in cells]
                columns[f"{name}, low"] = [low for low, _ in bounds]
                columns[f"{name}, high"] = [high for _, high in bounds]
            elif any(cell.note for cell in cells):
                columns[f"{name}, note"] = [cell.note for cell in cells]
        titled_columns = [[name, *values] for name, values in columns.items()]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in zip(*titled_columns, strict=True):
            writer.writerow([escape_spreadsheet_formula(value) for value in row])
        return text.getvalue().encode()


def escape_spreadsheet_formula(cell: object) -> object:
    """Begin a text that a spreadsheet would compute with an apostrophe; numbers are unchanged.

    Source: OWASP, "CSV Injection".
    """
    if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA_STARTS):
        return f"'{cell}"
    return cell
