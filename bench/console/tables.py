"""Tables on a terminal and as JSON."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console.console import printable, printable_lines
from bench.environment.files import name_in_errors
from bench.settings import split_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title, with a note below them."""

    title: str
    rows: Sequence[dict[str, Any]]
    note: str = ""
    is_transposed: bool = False  # print each row as a column: for many values of few experiments


def print_tables(tables: Sequence[Table], json_file: Path | None = None) -> None:
    """Print the tables that have rows to standard output; write all tables by title to a JSON file if given."""
    import pandas as pd  # which takes half a second

    if json_file is not None:
        write_tables(tables, json_file)
    for whole in tables:
        if whole.rows:
            table = _with_shared_settings_once(whole)
            shown = pd.DataFrame(table.rows, dtype=object).map(_format_value)
            if table.is_transposed:
                shown = shown.set_index(shown.columns[0]).T.rename_axis(index=None, columns=None).reset_index(names="")
            text = f"{table.title}\n{shown.apply(_left_align_words).to_string(index=False)}\n{table.note}"
            print(printable_lines(text), end="\n\n" if table.note else "\n")


def write_tables(tables: Sequence[Table], file: Path) -> None:
    """Write all tables by title to a JSON file."""
    figures = {table.title: {"rows": list(table.rows), "note": table.note} for table in tables}
    with name_in_errors(file):
        file.write_text(json.dumps(figures, indent=1, allow_nan=False))


def _with_shared_settings_once(table: Table) -> Table:
    """Return a table in which the settings that the experiments of all rows share stand below its title alone."""
    for column in table.rows[0]:
        names = [str(row.get(column)) for row in table.rows]
        split = {name: split_name(name) for name in names if name.endswith("]")}
        settings = [set(chain.from_iterable(groups)) for _, groups in split.values()]
        if len(split) == len({*names}) and (shared := set.intersection(*settings)):
            short = dict[str, str]()
            for name, (base, groups) in split.items():
                own = ([setting for setting in group if setting not in shared] for group in groups)
                short[name] = base + "".join(f"[{','.join(group)}]" for group in own if group)
            note = table.note
            for name in sorted(short, key=len, reverse=True):  # a name may begin with another one
                note = note.replace(name, short[name])
            rows = [row | {column: short[str(row[column])]} for row in table.rows]
            return replace(table, title=f"{table.title}\nall rows: {', '.join(sorted(shared))}", rows=rows, note=note)
    return table


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
