"""Tables on a terminal and as JSON."""

import json
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from bench.console.console import escape_unprintable, escape_unprintable_lines
from bench.environment.files import add_path_to_errors
from bench.formats import UNMEASURED
from bench.settings import split_name
from bench.tables import Table

if TYPE_CHECKING:
    import pandas as pd


def print_tables(tables: Sequence[Table], json_file: Path | None = None) -> None:
    """Print the tables that have rows to standard output; write all tables by title to a JSON file if given."""
    import pandas as pd  # which takes half a second

    if json_file is not None:
        write_tables(tables, json_file)
    for table in tables:
        if table.cells:
            title, shown, note = table.title, _texts(table), table.note
            for column in shown:
                shared, short = _shared_settings(shown[column])
                if shared:
                    title = f"{title}\nall rows: {', '.join(sorted(shared))}"
                    shown[column] = [short[name] for name in shown[column]]
                    for name in sorted(short, key=len, reverse=True):  # a name may begin with another one
                        note = note.replace(name, short[name])
                    break
            frame = pd.DataFrame(shown, dtype=object)
            if table.is_transposed:
                frame = frame.set_index(frame.columns[0]).T.rename_axis(index=None, columns=None).reset_index(names="")
            text = f"{title}\n{frame.apply(_left_align_words).to_string(index=False)}\n{note}"
            print(escape_unprintable_lines(text), end="\n\n" if note else "\n")


def write_tables(tables: Sequence[Table], file: Path) -> None:
    """Write all tables by title to a JSON file."""
    figures = {table.title: {"rows": table.rows, "note": table.note} for table in tables}
    with add_path_to_errors(file):
        file.write_text(json.dumps(figures, indent=1, allow_nan=False))


def _texts(table: Table) -> dict[str, list[str]]:
    names, cells = table.flat()
    return {
        name: ["-" if row[at].text == UNMEASURED else escape_unprintable(row[at].text_with_note) for row in cells]
        for at, name in enumerate(names)
    }


def _shared_settings(names: Sequence[str]) -> tuple[set[str], dict[str, str]]:
    """Return the settings that the experiments of a column share, and their names without these; else nothing."""
    split = {name: split_name(name) for name in names if name.endswith("]")}
    if len(split) < len({*names}):
        return set(), {}
    shared = set.intersection(*(set(chain.from_iterable(groups)) for _, groups in split.values()))
    short = dict[str, str]()
    for name, (base, groups) in split.items():
        own = ([setting for setting in group if setting not in shared] for group in groups)
        short[name] = base + "".join(f"[{','.join(group)}]" for group in own if group)
    return shared, short


def _left_align_words(column: "pd.Series[str]") -> "pd.Series[str]":
    """Left-align columns with words; numbers stay right-aligned."""
    if not all(re.fullmatch(r"[-+\d.,%]*", text) for text in column):
        width = max(map(len, (*column, str(column.name))))
        return column.str.ljust(width).rename(str(column.name).ljust(width))
    return column
