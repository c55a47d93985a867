"""Tables for terminals, pages and JSON: texts, and the values or reasons behind them. No torch here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from bench.tables.formats import EMPTY_CELL_TEXT, FormatNumber, HasInterval, Number, format_interval

V = TypeVar("V", float, int, str)
# First characters that make a spreadsheet compute a cell, full-width ones included.
FORMULA_STARTS = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it is shown, and the value behind it.

    An empty cell says why: its figure was not measured (`is_unmeasured`), which differs from zero, or cannot exist.
    """

    text: str
    note: str = ""  # small print beneath the text
    value: Any = None  # number or string at full precision, for sorting and JSON
    why: str = ""  # the reason of an empty cell
    is_unmeasured: bool = False
    anchor: str = ""  # id of the section with the details
    interval: tuple[Number | None, Number | None] | None = None  # lower and upper end

    @property
    def is_empty(self) -> bool:
        return self.text == EMPTY_CELL_TEXT

    @property
    def json_value(self) -> Any:
        """The value, as (value, low, high) if it has an interval; without a value the text; None for an empty cell."""
        if self.interval is not None:
            return (self.value, *self.interval)
        if self.value is None and not self.is_empty:
            return self.text
        return self.value

    @property
    def text_with_note(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text

    @staticmethod
    def from_value(value: Any) -> "Cell":
        """Return the cell of a number, a text, a figure with its interval, or None.

        Half of the interval's width is shown: the interval is symmetric, or nearly so.
        """
        if isinstance(value, HasInterval):
            text = Cell.from_value(value.value).text
            if value.low is not None and value.high is not None:
                half_width = (value.high - value.low) / 2
                text = f"{value.value:.3f} ±{half_width:.3f}"
            return Cell(text, value=value.value, interval=(value.low, value.high))
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return Cell(EMPTY_CELL_TEXT)
        text = str(value)
        if isinstance(value, int):
            text = f"{value:,}"
        elif isinstance(value, float):
            decimals = 3 if abs(value) < 10 else 1  # noqa: PLR2004
            text = f"{value:,.{decimals}f}"
        return Cell(text, value=value)

    @staticmethod
    def of(value: V, format_value: Callable[[V], str] = str, note: str = "") -> "Cell":
        """Return the cell that shows a value as `format_value` writes it, with small print beneath."""
        return Cell(format_value(value), note, value)

    @staticmethod
    def unmeasured(why: str) -> "Cell":
        """Return the empty cell of a figure that was not measured."""
        return Cell(EMPTY_CELL_TEXT, why=why, is_unmeasured=True)

    @staticmethod
    def not_applicable(why: str) -> "Cell":
        """Return the empty cell of a figure that cannot exist."""
        return Cell(EMPTY_CELL_TEXT, why=why)

    @staticmethod
    def measured_or_why(value: Number | None, format_value: FormatNumber, why: str) -> "Cell":
        """Return the cell of a figure; of None the empty cell that says why it was not measured."""
        if value is None:
            return Cell.unmeasured(why)
        return Cell.of(value, format_value)

    @staticmethod
    def applicable_or_why(value: V | None, format_value: Callable[[V], str], why: str) -> "Cell":
        """Return the cell of a figure or a text; of None the empty cell that says why it cannot exist."""
        if value is None:
            return Cell.not_applicable(why)
        return Cell.of(value, format_value)

    @staticmethod
    def estimate_or_why(
        figure: HasInterval | None, format_value: FormatNumber, why: str = ""
    ) -> "Cell":
        """Return the cell of a figure with its interval; of None the empty cell that says why it cannot exist.

        Without an interval the unit of repetition, which the figure is `over`, is beneath the figure.
        """
        if figure is None:
            return Cell.not_applicable(why)
        text = format_value(figure.value)
        note = format_interval(figure, format_value) or getattr(figure, "over", "")
        return Cell(text, note, figure.value, interval=(figure.low, figure.high))

    @staticmethod
    def naming_row(label: str, experiment_name: str) -> "Cell":
        """Return the cell that names a row: its label, with the experiment's name beneath where that differs."""
        return Cell.of(label, note="" if label == experiment_name else experiment_name)


@dataclass(frozen=True, slots=True)
class Column:
    """The heading of a column."""

    title: str
    subtitle: str = ""  # small print beneath the title
    is_numeric: bool = True  # right-aligned

    @property
    def title_with_subtitle(self) -> str:
        return f"{self.title}, {self.subtitle}" if self.subtitle else self.title

    @staticmethod
    def left_aligned(title: str, subtitle: str = "") -> "Column":
        """Return a left-aligned column."""
        return Column(title, subtitle, is_numeric=False)

    @staticmethod
    def all_left_aligned(*titles: str) -> "list[Column]":
        """Return left-aligned columns without subtitles."""
        return [Column.left_aligned(title) for title in titles]


Row = Sequence[Cell]
MISSING_CELL = Cell(EMPTY_CELL_TEXT)  # of a row that lacks a column


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows."""

    title: str
    columns: Sequence[Column]
    # Rows by the heading of their group, "" without one; sorting keeps the rows of a group together.
    groups: Mapping[str, Sequence[Row]]
    note: str = ""  # below it
    # A terminal shows each row as a column: for many values of few experiments.
    is_transposed: bool = False

    @staticmethod
    def of_rows(
        title: str, columns: Sequence[Column], rows: Sequence[Row], note: str = ""
    ) -> "Table":
        """Return a table of one group without a heading."""
        return Table(title, columns, {"": rows}, note)

    @staticmethod
    def of_groups(
        title: str,
        columns: Sequence[Column],
        groups: Mapping[str, Sequence[Row]],
    ) -> "Table":
        """Return a table of groups of rows by their headings; groups without rows are left out."""
        filled_groups = {heading: rows for heading, rows in groups.items() if rows}
        return Table(title, columns, filled_groups)

    @staticmethod
    def from_dicts(
        title: str,
        rows: Sequence[Mapping[str, Any]],
        note: str = "",
        *,
        is_transposed: bool = False,
    ) -> "Table":
        """Return a table of rows that map column titles to what `Cell.from_value` takes; a row may lack columns."""
        keys = list(dict.fromkeys(chain.from_iterable(rows)))
        columns = []
        for key in keys:
            has_text = any(isinstance(row.get(key), str) for row in rows)
            columns.append(Column(key, is_numeric=not has_text))
        cells = []
        for row in rows:
            cell_by_key = dict.fromkeys(keys, MISSING_CELL)
            for key, value in row.items():
                cell_by_key[key] = Cell.from_value(value)
            cells.append(list(cell_by_key.values()))
        return Table(title, columns, {"": cells}, note, is_transposed)

    @property
    def all_rows(self) -> list[Row]:
        """The rows of all groups."""
        return list(chain.from_iterable(self.groups.values()))

    @property
    def has_group_headings(self) -> bool:
        return any(self.groups)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The values of each row by column name.

        The heading of a row's group is under "group". A missing column is left out.
        """
        names = self.column_names
        value_rows = []
        for heading, rows in self.groups.items():
            for row in rows:
                values = {"group": heading} if self.has_group_headings else {}
                for name, cell in zip(names, row, strict=True):
                    if cell is not MISSING_CELL:
                        values[name] = cell.json_value
                value_rows.append(values)
        return value_rows

    @property
    def column_names(self) -> list[str]:
        """The titles of the columns; a repeated title has its subtitle added."""
        titles = [column.title for column in self.columns]
        names = []
        for column in self.columns:
            is_repeated = titles.count(column.title) > 1
            names.append(column.title_with_subtitle if is_repeated else column.title)
        return names


def escape_spreadsheet_formula(cell: object) -> object:
    """Return a cell with an apostrophe before a text that a spreadsheet would compute; numbers are unchanged.

    Source: OWASP, "CSV Injection".
    """
    if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA_STARTS):
        return f"'{cell}"
    return cell
