"""Batches of captions, and the rows of plain text, JSON lines, csv and tsv.

Lines and csv are read in Python: pyarrow's csv reader drops rows or stops at common flaws of web data (an additional
comma, a value longer than its block, bytes that are not UTF-8), and its JSON reader infers types by block.
"""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import cast

import msgspec
import pyarrow as pa

from bench.config import MAX_COMPARED_NAMES, MAX_NAME_LENGTH, choose, list_names

MAX_BATCH_ROWS, MAX_BATCH_BYTES = 65_536, 16 * 2**20  # a batch is also a row group of the labels
MAX_CAPTION_BYTES = 4 * 2**20  # bytes; a longer caption is skipped and counted
NULL, TOO_LONG = "null", f"longer than {MAX_CAPTION_BYTES // 2**20} MiB"  # why a row has no caption
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "txt", "alt", "alt_text", "title", "description")
KEY_COLUMNS = ("key", "__key__", "uid", "sample_id")
MAX_LINE_BYTES = 16 * 2**20  # bytes; a longer line means another format or an unclosed quotation mark
COMPRESSED = (".gz", ".tgz")
UTF16 = (b"\xff\xfe", b"\xfe\xff")
NO_CAPTION, NOT_JSON, MISCOUNTED = "no caption", "not a JSON object", "not as many values as columns"

MISSING = object()  # in place of the value of a field that is not there
JSON_KINDS: dict[type, str] = {list: "a list", dict: "an object", bool: "true or false"}

CaptionRow = tuple[str | None, bytes | None, str]  # key (None: the row's number), caption, and flaw or ""
Parse = Callable[[io.BufferedReader, str | None], Iterator[CaptionRow]]  # of a file with a caption column, or None


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Rows of a file. A row without a caption has a null, and its flaw is counted."""

    keys: pa.StringArray
    captions: pa.BinaryArray  # not yet validated as UTF-8
    bytes_read: int  # of the file, so far
    flaws: Counter[str] = field(default_factory=Counter)


def collect_batches(rows: Iterable[CaptionRow], bytes_read: Callable[[], int]) -> Iterator[CaptionBatch]:
    """Collect rows into batches; a key that is None becomes the row's number, counted from 0."""
    numbered, is_last = enumerate(rows), False
    while not is_last:
        keys, captions, flaws, num_bytes = list[str](), list[bytes | None](), Counter[str](), 0
        for number, (key, caption, flaw) in numbered:
            keys.append(str(number) if key is None else key)
            captions.append(caption)
            num_bytes += len(caption or b"")
            if flaw:
                flaws[flaw] += 1
            if len(keys) >= MAX_BATCH_ROWS or num_bytes >= MAX_BATCH_BYTES:
                break
        else:
            is_last = True
        yield CaptionBatch(pa.array(keys, pa.string()), pa.array(captions, pa.binary()), bytes_read(), flaws)


class CaptionColumnError(ValueError):
    """No column has a name known for captions; `advise_on_column` adds what to do."""


@contextmanager
def advise_on_column(remedy: str) -> Iterator[None]:
    """Add the remedy to the error of a file without a column whose name is known for captions."""
    try:
        yield
    except CaptionColumnError as error:
        raise ValueError(f"{error}: {remedy}") from None


def find_caption_column(names: Sequence[str], requested: str | None) -> str:
    """Return the name of the caption column, or the requested one; ValueError lists the columns and suggests one."""
    if requested is not None:
        return _require_once(choose(requested, {name: name for name in names}, "column"), names)
    if found := find_column(names, CAPTION_COLUMNS):
        return found
    lower = {name.lower(): name for name in names[:MAX_COMPARED_NAMES]}
    near = [match for known in CAPTION_COLUMNS for match in get_close_matches(known, lower, n=1, cutoff=0.7)]
    near += [name for name in lower for known in CAPTION_COLUMNS if known in name]
    hint = f"; likely {lower[near[0]]!r}" if near else ""
    raise CaptionColumnError(f"no column has a name known for captions{hint} (there are {list_names(names)})")


def find_column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first known name among `names`, in any case; ValueError for a name that occurs twice."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((_require_once(lower[name], names) for name in known if name in lower), None)


def _require_once(name: str, names: Sequence[str]) -> str:
    if names.count(name) > 1:
        raise ValueError(f"{names.count(name)} columns are named {name!r}: rename all but one")
    return name


def read_rows(path: Path, column: str | None, parse: Parse) -> Iterator[CaptionBatch]:
    """Read a file, plain or gzipped, whose content `parse` turns into rows."""
    with path.open("rb") as raw:
        file = raw
        if path.suffix in COMPRESSED:
            file = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw)), 2**20)
        yield from collect_batches(parse(file, column), raw.tell)


def _split_lines(file: io.BufferedReader) -> Iterator[bytes]:
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


def parse_plain_text(file: io.BufferedReader, column: str | None) -> Iterator[CaptionRow]:
    if column is not None:
        raise ValueError(f"plain text has no columns: remove --column {column!r}")
    return ((None, line, "") for line in _split_lines(file))


def parse_json_lines(file: io.BufferedReader, column: str | None) -> Iterator[CaptionRow]:
    """Read one JSON object per line; the fields of the first one determine the caption and the key field."""
    name = key = None
    for line in filter(None, _split_lines(file)):
        fields = decode_json_object(line)
        if name is None:
            if fields is None:
                raise ValueError("the first line is not a JSON object")
            name, key = find_caption_column([*fields], column), find_column([*fields], KEY_COLUMNS)
        if fields is None:
            yield None, None, NOT_JSON
        else:
            yield _to_valid_text(fields.get(key)) if key else None, *read_caption_and_flaw(fields, name)


def read_caption_and_flaw(fields: Mapping[str, object], name: str) -> tuple[bytes | None, str]:
    """Return the caption of a JSON object and its flaw; a null is no flaw."""
    value = fields.get(name, MISSING)
    caption = encode_original_bytes(value)
    if caption is not None or value is None:
        return caption, ""
    kind = JSON_KINDS.get(type(value), "a number")
    return None, NO_CAPTION if value is MISSING else f"{name[:MAX_NAME_LENGTH]} holds {kind}, expected a text"


def decode_json_object(line: bytes) -> dict[str, object] | None:
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


def encode_original_bytes(value: object) -> bytes | None:
    """Return the original bytes of a text, invalid UTF-8 included; None unless the value is a text."""
    if not isinstance(value, str):
        return None
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an unpaired surrogate, which JSON can encode
        return value.encode("utf-8", "surrogatepass")


def parse_csv(file: io.BufferedReader, column: str | None, *, delimiter: str) -> Iterator[CaptionRow]:
    """Read csv or tsv. A column given as a number, counted from 1, means that the file has no header."""
    csv.field_size_limit(MAX_LINE_BYTES)
    texts = (line.decode("utf-8", "surrogateescape") + "\n" for line in _split_lines(file))
    records = csv.reader(texts, delimiter=delimiter, strict=True)
    key: int | None = None
    try:
        first = next(records, [])
        if column is not None and column.isdecimal():
            if not 1 <= int(column) <= len(first):
                raise ValueError(f"no column {column}: expected 1 to {len(first)}")
            index = int(column) - 1
            yield None, encode_original_bytes(first[index]), ""
        else:
            index, key_name = first.index(find_caption_column(first, column)), find_column(first, KEY_COLUMNS)
            key = first.index(key_name) if key_name else None
        for values in filter(None, records):
            if len(values) == len(first):
                yield None if key is None else _to_valid_text(values[key]), encode_original_bytes(values[index]), ""
            else:
                yield None, None, MISCOUNTED
    except csv.Error as error:
        raise ValueError(f"line {records.line_num}: {error} (is a quotation mark left open?)") from None


def _to_valid_text(value: object) -> str | None:
    """Return a key as valid Unicode."""
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8", "replace")
