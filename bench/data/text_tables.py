"""Rows of csv, tsv, JSON lines and plain text, in memory that does not grow with the file.

They are read in Python: pyarrow's csv reader drops rows or stops at common flaws of web data (an additional comma, a
value longer than its block, bytes that are not UTF-8), and its JSON reader infers types by block. Bytes that are not
UTF-8 become U+FFFD.
"""

import csv
import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec

from bench.data.columns import CAPTION_COLUMNS, PATH_COLUMNS, require_distinct_columns

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt")
# Bytes; a longer line means another format or an unclosed quotation mark.
MAX_LINE_BYTES = 16 * 2**20
csv.field_size_limit(MAX_LINE_BYTES)  # a setting of the whole process
UTF8_REMEDY = (
    "convert the files to UTF-8, where they are Latin-1 with iconv -f latin1 -t utf-8 FILE > NEW"
)

Row = dict[str, Any]  # values by column


@dataclass(frozen=True, slots=True)
class TextTable:
    """An open file of rows."""

    columns: list[str]  # names in the header, or in the first JSON object
    rows: Iterator[Row]

    @property
    def text_columns(self) -> list[str]:
        """Columns that may hold texts."""
        return self.columns

    def read_rows(self, _columns: list[str]) -> Iterator[Row]:
        """Return the rows, which can be read once.

        A row has all columns, whichever are named, because a line is read whole; one that cannot be read has none.
        """
        return self.rows


@contextmanager
def open_text_table(path: Path) -> Iterator[TextTable]:
    """Open a file by its suffix; ValueError, OSError or csv.Error if it cannot be read, also while rows are read."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        is_plain = suffix == ".txt" and not _has_header_line(file)
        lines = _iterate_lines(file)
        if is_plain:
            columns = [CAPTION_COLUMNS[0]]
            texts = (line.decode("utf-8", "replace") for line in lines)
            rows: Iterator[Row] = ({columns[0]: text} for text in texts)
        elif suffix == ".jsonl":
            objects = (decode_json_object(line) or {} for line in lines if line)
            first_object = next(objects, {})
            if not first_object:
                raise ValueError(
                    "it is empty, or its first line is no JSON object, nested too deep or has too long a number"
                )
            columns = list(first_object)
            rows = chain([first_object], objects)
        else:
            values = _read_csv_lines(lines, suffix)
            columns = require_distinct_columns(next(values, []))
            rows = (_row_by_column(columns, row) for row in values if row)
        yield TextTable(columns, rows)


def _has_header_line(file: io.BufferedReader) -> bool:
    """Return whether a text begins with a header: column names known for paths of images and for captions."""
    line = file.peek(1).removeprefix(BOM_UTF8).partition(b"\n")[0]
    parts = re.split(r"[,;|\t]", line.decode("utf-8", "replace").lower())
    names = {part.strip(' "\r') for part in parts}
    return not (names.isdisjoint(PATH_COLUMNS) or names.isdisjoint(CAPTION_COLUMNS))


def _row_by_column(columns: list[str], row: list[str]) -> Row:
    """Return the values of a row by column; none if the row has too few or too many."""
    if len(row) != len(columns):
        return {}
    return dict(zip(columns, row, strict=True))


def _iterate_lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield lines without their line breaks; ValueError for a line that is too long."""
    if file.peek(len(BOM_UTF8)).startswith(BOM_UTF8):
        file.read(len(BOM_UTF8))
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"a line is longer than {MAX_LINE_BYTES // 2**20} MiB")
        yield line.rstrip(b"\n").removesuffix(b"\r")


def _read_csv_lines(lines: Iterator[bytes], suffix: str) -> Iterator[list[str]]:
    """Yield the header and the rows.

    The delimiter is a tab in a .tsv file and wherever the header has one, as open_clip's default is; else it is the
    comma, semicolon or bar that the header has most often, and a comma if it has none of them. Values between bars have
    no quotation marks, as in Flickr30k's table; csv.Error if other values leave one open.
    """
    texts = (line.decode("utf-8", "replace") + "\n" for line in lines)
    header = next(texts, "\n")
    delimiter = max(",;|", key=header.count)
    if suffix == ".tsv" or "\t" in header:
        delimiter = "\t"
    lines_of_table = chain([header], texts)
    if delimiter == "|":
        return csv.reader(
            lines_of_table, delimiter="|", quoting=csv.QUOTE_NONE, skipinitialspace=True
        )
    return _read_rows_with_closed_quotes(lines_of_table, delimiter)


def _read_rows_with_closed_quotes(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """Yield rows, and at last an empty one; csv.Error if a quotation mark is not closed."""
    # The additional line is an empty row, unless it is within quotation marks. csv's strict=True would find this too,
    # but also refuse a letter after a closing mark, which web data have.
    row: list[str] = []
    for row in csv.reader(chain(lines, ["\n"]), delimiter=delimiter):
        yield row
    if row:
        raise csv.Error("a quotation mark is not closed")


def decode_json_object(content: bytes) -> dict[str, object] | None:
    """Return a JSON object, None for anything else.

    Bytes and halves of surrogate pairs that are not valid are replaced.
    """
    try:
        value = msgspec.json.decode(content)
    except RecursionError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError):  # NaN, long numbers, text that is not valid
        try:
            text = json.dumps(json.loads(decode_utf8_without_bom(content)), ensure_ascii=False)
            encoded = text.encode("utf-8", "surrogatepass")
            value = json.loads(encoded.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def decode_utf8_without_bom(content: bytes) -> str:
    """Decode UTF-8 and leave out a byte order mark; bytes that are not valid become U+FFFD."""
    return content.decode("utf-8-sig", "replace")
