"""Tables on a terminal and as JSON."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from bench.console.console import escape_unprintable
from bench.environment.files import add_path_to_errors, require_regular_file_if_exists
from bench.tables.formats import NBSP
from bench.tables.tables import Table

UNKNOWN = "-"  # in place of a figure that is not there
WIDTH = 120  # letters of a line of a note
STDOUT = ("-", "/dev/stdout")  # of a JSON file


def print_tables(tables: Sequence[Table], json_file: Path | None = None) -> None:
    """Print tables to standard output, and write them to a JSON file if it is given.

    Tables without rows are not printed; in the file are all tables by title. The JSON takes the place of the tables
    where that file is standard output.
    """
    if json_file is not None:
        figures = {}
        for table in tables:
            figures[table.title] = {"rows": table.rows, "note": table.note}
        text = json.dumps(figures, indent=1, allow_nan=False)
        if str(json_file) in STDOUT:
            print(text)
            return
        with add_path_to_errors(json_file):
            json_file.write_text(text)
    for table in tables:
        if table.all_rows:
            print("\n".join(_format_table_lines(table)), end="\n\n")


def require_writable_json(path: Path | None) -> None:
    """Raise ValueError for a file of `--json` that cannot be written, such as a folder or a pipe."""
    if path is not None and str(path) not in STDOUT:
        require_regular_file_if_exists(path)
        if not path.parent.is_dir():
            raise ValueError(f"--json {path}: there is no folder {path.parent}")


def _format_table_lines(table: Table) -> Iterator[str]:
    """Yield the lines of a table."""
    names = table.column_names
    if table.is_transposed:  # there is room for what the figures of a row mean
        names = ["", *(column.title_with_subtitle for column in table.columns[1:])]
    rows: list[Sequence[str]] = [[_escape_line(name) for name in names]]
    for cells in table.all_rows:
        texts = [UNKNOWN if cell.is_empty else _escape_line(cell.text_with_note) for cell in cells]
        if table.has_group_headings:
            texts[0] = f"  {texts[0]}"
        rows.append(texts)
    if table.is_transposed:
        rows = list(zip(*rows, strict=True))
    columns = [_pad_column_cells(column) for column in zip(*rows, strict=True)]
    header, *lines = [" ".join(row).rstrip() for row in zip(*columns, strict=True)]
    for line in table.title.split("\n"):
        yield _escape_line(line)
    yield header
    if table.has_group_headings:
        for heading, members in table.groups.items():
            yield _escape_line(heading)
            for _ in members:
                yield lines.pop(0)
    yield from lines
    for line in table.note.split("\n"):
        yield from wrap(_escape_line(line), WIDTH, break_long_words=False)


def _escape_line(text: str) -> str:
    """Return a text on one line, escaped; spaces that bind words are plain ones."""
    return escape_unprintable(text.replace(NBSP, " "))


def _pad_column_cells(column: Sequence[str]) -> list[str]:
    """Pad the head and the cells of a column to one width: numbers on the left, words on the right."""
    is_numeric = all(re.fullmatch(r"[-+\d.,% ]*", text) for text in column[1:])
    width = max(len(text) for text in column)
    return [text.rjust(width) if is_numeric else text.ljust(width) for text in column]
