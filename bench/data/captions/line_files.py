"""Captions of plain text, JSON lines, csv and tsv.

Lines and csv are read in Python: pyarrow's csv reader drops rows or stops at common flaws of web data (an additional
comma, a value longer than its block, bytes that are not UTF-8), and its JSON reader infers types by block.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import cast

import msgspec

from bench.data.captions.batches import KEY_COLUMNS, CaptionBatch, Row, batched, caption_column, known_column

MAX_LINE_BYTES = 64 * 2**20  # bytes; a longer line means another format or an unclosed quotation mark
COMPRESSED = (".gz", ".tgz")
UTF16 = (b"\xff\xfe", b"\xfe\xff")
NO_CAPTION, NOT_JSON, MISCOUNTED = "no caption", "not a JSON object", "not as many values as columns"


def read_rows(
    path: Path, column: str | None, rows_of: Callable[[Iterator[bytes], str | None], Iterator[Row]]
) -> Iterator[CaptionBatch]:
    """Read a file, plain or gzipped, whose lines `rows_of` turns into rows."""
    with path.open("rb") as raw:
        yield from batched(rows_of(_lines(unpacked(raw, path)), column), raw.tell)


def unpacked(raw: io.BufferedReader, path: Path) -> io.BufferedReader:
    """Return the content of a file that may be gzipped."""
    if path.suffix not in COMPRESSED:
        return raw
    return io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw)), 2**20)


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield lines without their line breaks."""
    for number in count(1):
        if not (line := file.readline(MAX_LINE_BYTES + 1)):
            return
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"line {number} is longer than {MAX_LINE_BYTES // 2**20} MiB")
        if number == 1:
            if line.startswith(UTF16):
                raise ValueError("the file is UTF-16, expected UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield line.rstrip(b"\n").removesuffix(b"\r")


def text_rows(lines: Iterator[bytes], column: str | None) -> Iterator[Row]:
    """Read plain text, one caption per line."""
    if column is not None:
        raise ValueError(f"plain text has no columns: remove --column {column!r}")
    return ((None, line, "") for line in lines)


def json_rows(lines: Iterator[bytes], column: str | None) -> Iterator[Row]:
    """Read one JSON object per line; the fields of the first one determine the caption and the key field."""
    name = key = None
    for line in filter(None, lines):
        fields = json_object(line)
        if name is None:
            if fields is None:
                raise ValueError("the first line is not a JSON object")
            name, key = caption_column([*fields], column), known_column([*fields], KEY_COLUMNS)
        if fields is None:
            yield None, None, NOT_JSON
        else:
            yield _text(fields.get(key)) if key else None, *caption_of(fields, name)


def caption_of(fields: Mapping[str, object], name: str) -> tuple[bytes | None, str]:
    """Return the caption of a JSON object and its flaw; a null is no flaw."""
    caption = as_bytes(fields.get(name))
    return caption, NO_CAPTION if caption is None and fields.get(name, "") is not None else ""


def json_object(line: bytes) -> dict[str, object] | None:
    """Return a JSON object, None for anything else; bytes that are not UTF-8 become surrogates."""
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
    """Return the original bytes of a text, invalid UTF-8 included; None unless the value is a text."""
    if not isinstance(value, str):
        return None
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an unpaired surrogate, which JSON can encode
        return value.encode("utf-8", "surrogatepass")


def csv_rows(lines: Iterator[bytes], column: str | None, *, delimiter: str) -> Iterator[Row]:
    """Read csv or tsv. A column given as a number, counted from 1, means that the file has no header."""
    csv.field_size_limit(MAX_LINE_BYTES)
    texts = (line.decode("utf-8", "surrogateescape") + "\n" for line in lines)
    records = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        first = next(records, [])
        index, key, width = _columns(first, column)
        if column is not None and column.isdecimal():
            yield None, as_bytes(first[index]), ""
        for values in filter(None, records):
            if len(values) == width:
                yield None if key is None else _text(values[key]), as_bytes(values[index]), ""
            else:
                yield None, None, MISCOUNTED
    except csv.Error as error:
        raise ValueError(f"line {records.line_num}: {error} (is a quotation mark left open?)") from None


def _columns(first: list[str], column: str | None) -> tuple[int, int | None, int]:
    """Return the index of the caption column, that of the key column, and the number of columns."""
    if column is not None and column.isdecimal():
        if not 1 <= int(column) <= len(first):
            raise ValueError(f"no column {column}: expected 1 to {len(first)}")
        return int(column) - 1, None, len(first)
    key = known_column(first, KEY_COLUMNS)
    return first.index(caption_column(first, column)), first.index(key) if key else None, len(first)


def _text(value: object) -> str | None:
    """Return a key as valid Unicode."""
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8", "replace")
