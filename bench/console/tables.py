"""Figures as tables on a terminal, and as JSON."""

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
    """Rows of figures under a title, and what is said under them."""

    title: str
    rows: Sequence[dict[str, Any]]
    note: str = ""
    turned: bool = False  # printed with one column a row: for many figures of few experiments


def show(tables: Sequence[Table], json_file: Path | None = None) -> None:
    """Print the tables that have rows to standard output, and write all figures where asked to, by title."""
    if json_file is not None:
        figures = {table.title: {"rows": list(table.rows), "note": table.note} for table in tables}
        json_file.write_text(json.dumps(figures, indent=1, allow_nan=False))
    for table in tables:
        if table.rows:
            shown = pd.DataFrame(table.rows, dtype=object).map(_shown)
            if table.turned:
                shown = shown.set_index(shown.columns[0]).T.rename_axis(index=None, columns=None).reset_index(names="")
            told = f"{table.title}\n{shown.apply(_aligned).to_string(index=False)}\n{table.note}"
            print(printable_lines(told), end="\n\n" if table.note else "\n")


def _aligned(column: "pd.Series[str]") -> "pd.Series[str]":
    """Pad words at their right, so that they begin where their heading does; figures stay at the right."""
    if not all(re.fullmatch(r"[-+\d.,%]*", text) for text in column):
        width = max(map(len, (*column, str(column.name))))
        return column.str.ljust(width).rename(str(column.name).ljust(width))
    return column


def _shown(value: object) -> str:
    if isinstance(value, tuple):  # a figure and its interval
        figure, low, high = value
        return _shown(figure) if low is None else f"{figure:.3f} ±{(high - low) / 2:.3f}"
    if value is None or value != value:  # noqa: PLR0124 - pandas turns a missing figure into NaN
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:,.1f}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
