"""Captions of plain text, JSON lines, csv and tsv.

Lines and csv are read in Python, for pyarrow's csv reader drops rows or stops at what the web is full of (a row with a
comma too many, a value longer than its block, bytes that are not UTF-8), and its JSON reader guesses types by block.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from bench.data.captions.batches import KEY_COLUMNS, Batch, Rows, caption_column, known_column

LONGEST_LINE = 64 * 2**20  # bytes; longer is no caption file, or a quotation mark that nothing closes
UTF16 = (b"\xff\xfe", b"\xfe\xff")
NO_CAPTION, NOT_JSON, MISCOUNTED = "no caption", "not a JSON object", "not as many values as columns"


class Lines:
    """The lines of a file that may be compressed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        unpacked = gzip.GzipFile(fileobj=self._file) if path.suffix == ".gz" else self._file
        self._lines = cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", unpacked), 2**20))
        self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines without their ends."""
        while line := self._lines.readline(LONGEST_LINE + 1):
            self.number += 1
            if len(line) > LONGEST_LINE:
                raise ValueError(f"line {self.number} is longer than {LONGEST_LINE // 2**20} MiB")
            if self.number == 1:
                if line.startswith(UTF16):
                    raise ValueError("the file is UTF-16, expected UTF-8")
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield line.rstrip(b"\n").removesuffix(b"\r")

    @property
    def bytes_read(self) -> int:
        """How far the file, as it lies on the disk, has been read."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_lines(path: Path, column: str | None) -> Iterator[Batch]:
    """Read plain text, a caption a line; its key is the line's number, from 0."""
    if column is not None:
        raise ValueError(f"plain text has no columns, so none is named {column!r}")
    rows = Rows()
    with closing(Lines(path)) as lines:
        for line in lines:
            rows.add(None, line)
            if rows.full:
                yield rows.take(lines.bytes_read)
        yield rows.take(lines.bytes_read)


def read_json_lines(path: Path, column: str | None) -> Iterator[Batch]:
    """Read a JSON object a line; the first one's fields decide where captions and keys are."""
    rows, name, key = Rows(), None, None
    with closing(Lines(path)) as lines:
        for line in lines:
            if not line:
                continue
            fields = json_object(line)
            if name is None:
                if fields is None:
                    raise ValueError("the first line is not a JSON object")
                name, key = caption_column([*fields], column), known_column([*fields], KEY_COLUMNS)
            if fields is None:
                rows.add(None, None, NOT_JSON)
            else:
                caption = as_bytes(fields.get(name))
                flaw = NO_CAPTION if caption is None and fields.get(name, "") is not None else ""
                rows.add(_text(fields.get(key)) if key else None, caption, flaw)
            if rows.full:
                yield rows.take(lines.bytes_read)
        yield rows.take(lines.bytes_read)


def json_object(line: bytes) -> dict[str, object] | None:
    """Return a JSON object, or None for anything else. Bytes that are not UTF-8 are replaced."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            value = json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            return None
    except RecursionError:
        return None
    return value if isinstance(value, dict) else None


def as_bytes(value: object) -> bytes | None:
    """Return a text's bytes, those that were not UTF-8 as they were; None for what is no text."""
    if not isinstance(value, str):
        return None
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        return value.encode("utf-8", "surrogatepass")


def read_csv(path: Path, column: str | None, *, delimiter: str) -> Iterator[Batch]:
    """Read csv or tsv. A column that is a number, from 1, says that the file has no header."""
    csv.field_size_limit(LONGEST_LINE)
    rows = Rows()
    with closing(Lines(path)) as lines:
        texts = (line.decode("utf-8", "surrogateescape") + "\n" for line in lines)
        records = csv.reader(texts, delimiter=delimiter, strict=True)
        try:
            first = next(records, [])
            place, key, width = _places(first, column)
            if column is not None and column.isdecimal():
                rows.add(None, as_bytes(first[place]))
            for values in records:
                if not values:
                    continue
                if len(values) == width:
                    rows.add(None if key is None else _text(values[key]), as_bytes(values[place]))
                else:
                    rows.add(None, None, MISCOUNTED)
                if rows.full:
                    yield rows.take(lines.bytes_read)
        except csv.Error as error:
            raise ValueError(f"line {records.line_num}: {error} (is a quotation mark left open?)") from None
        yield rows.take(lines.bytes_read)


def _places(first: list[str], column: str | None) -> tuple[int, int | None, int]:
    """Return where the caption and the key are, and how many columns there are."""
    if column is not None and column.isdecimal():
        if not 1 <= int(column) <= len(first):
            raise ValueError(f"there are columns 1 to {len(first)}, no column {column}")
        return int(column) - 1, None, len(first)
    key = known_column(first, KEY_COLUMNS)
    return first.index(caption_column(first, column)), first.index(key) if key else None, len(first)


def _text(value: object) -> str | None:
    """Return a key as text that can be stored."""
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8", "replace")
