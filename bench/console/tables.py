"""Tables on a terminal and as JSON."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.console.console import printable, printable_lines


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title, with a note below them."""

    title: str
    rows: Sequence[dict[str, Any]]
    note: str = ""
    is_transposed: bool = False  # print each row as a column: for many values of few experiments


def print_tables(tables: Sequence[Table], json_file: Path | None = None) -> None:
    """Print the tables that have rows to standard output; write all tables by title to a JSON file if given."""
    if json_file is not None:
        figures = {table.title: {"rows": list(table.rows), "note": table.note} for table in tables}
        json_file.write_text(json.dumps(figures, indent=1, allow_nan=False))
    for table in tables:
        if table.rows:
            shown = pd.DataFrame(table.rows, dtype=object).map(_format_value)
            if table.is_transposed:
                shown = shown.set_index(shown.columns[0]).T.rename_axis(index=None, columns=None).reset_index(names="")
            text = f"{table.title}\n{shown.apply(_left_align_words).to_string(index=False)}\n{table.note}"
            print(printable_lines(text), end="\n\n" if table.note else "\n")


def _left_align_words(column: "pd.Series[str]") -> "pd.Series[str]":
    """Left-align columns with words; numbers stay right-aligned."""
    if not all(re.fullmatch(r"[-+\d.,%]*", text) for text in column):
        width = max(map(len, (*column, str(column.name))))
        return column.str.ljust(width).rename(str(column.name).ljust(width))
    return column


def _format_value(value: object) -> str:
    if isinstance(value, tuple):  # a value and its interval
        figure, low, high = value
        return _format_value(figure) if low is None else f"{figure:.3f} ±{(high - low) / 2:.3f}"
    if value is None or value != value:  # noqa: PLR0124 - pandas turns a missing value into NaN
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:,.1f}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
