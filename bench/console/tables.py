"""Tables on a terminal and as JSON."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from textwrap import wrap

from bench.console.console import escape_unprintable
from bench.environment.files import add_path_to_errors
from bench.experiment.settings import split_name
from bench.tables.formats import NBSP, UNMEASURED
from bench.tables.tables import Table

UNKNOWN = "-"  # in place of a figure that is not there
WIDTH = 120  # letters of a line of a note


def print_tables(tables: Sequence[Table], json_file: Path | None = None) -> None:
    """Print the tables that have rows to standard output; write all tables by title to a JSON file if given."""
    if json_file is not None:
        write_tables(tables, json_file)
    for table in tables:
        if table.cells:
            print("\n".join(_draw(table)), end="\n\n")


def write_tables(tables: Sequence[Table], file: Path) -> None:
    """Write all tables by title to a JSON file."""
    figures = {table.title: {"rows": table.rows, "note": table.note} for table in tables}
    with add_path_to_errors(file):
        file.write_text(json.dumps(figures, indent=1, allow_nan=False))


def _draw(table: Table) -> Iterator[str]:
    """Yield the lines of a table; settings that the experiments of a column share stand once below the title."""
    names = table.names
    if table.is_transposed:  # there is room for what the figures of a row mean
        names = [column.title_with_note for column in table.columns]
    texts = [
        [UNKNOWN if cell.text == UNMEASURED else cell.text_with_note for cell in row]
        for row in table.cells
    ]
    columns = [[*map(_plain, column)] for column in zip(names, *texts, strict=True)]
    found = (_shared_settings(column) for _, *column in columns)
    shared, short = next((one for one in found if one[0]), (set[str](), dict[str, str]()))

    def shorten(text: str) -> str:
        for name in sorted(short, key=len, reverse=True):  # a name may begin with another one
            text = text.replace(name, short[name])
        return text

    columns = [[*map(shorten, column)] for column in columns]
    if any(table.groups):
        columns[0][1:] = [f"  {text}" for text in columns[0][1:]]
    if table.is_transposed:
        columns[0][0] = ""
        columns = [[*row] for row in zip(*columns, strict=True)]
    yield from map(_plain, table.title.split("\n"))
    if shared:
        yield f"all experiments: {', '.join(sorted(shared))}"
    lines = (" ".join(row).rstrip() for row in zip(*map(_align, columns), strict=True))
    yield next(lines)
    for heading, rows in ({} if table.is_transposed else table.groups).items():
        if heading:
            yield _plain(heading)
        yield from islice(lines, len(rows))
    yield from lines
    for line in table.note.split("\n"):
        yield from wrap(shorten(_plain(line)), WIDTH, break_long_words=False)


def _plain(text: str) -> str:
    """Return a text on one line, escaped; spaces that bind words are plain ones."""
    return escape_unprintable(text.replace(NBSP, " "))


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


def _align(column: Sequence[str]) -> list[str]:
    """Pad the head and the cells of a column to one width: numbers on the left, words on the right."""
    is_numeric = all(re.fullmatch(r"[-+\d.,% ]*", text) for text in column[1:])
    width = max(map(len, column))
    return [text.rjust(width) if is_numeric else text.ljust(width) for text in column]
