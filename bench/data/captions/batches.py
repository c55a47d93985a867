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
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import cast

import msgspec
import pyarrow as pa

from bench.experiment.config import choose, list_names

MAX_BATCH_ROWS, MAX_BATCH_BYTES = 65_536, 16 * 2**20  # a batch is also a row group of the labels
MAX_CAPTION_BYTES = 4 * 2**20  # bytes; a longer caption is skipped and counted
# Why a row has no caption.
NULL, TOO_LONG = (
    "the caption is null",
    f"the caption is longer than {MAX_CAPTION_BYTES // 2**20} MiB",
)
NO_CAPTION, NOT_JSON, MISCOUNTED = (
    "no caption",
    "not a JSON object",
    "not as many values as columns",
)
CAPTION_COLUMNS = (
    "caption",
    "captions",
    "text",
    "texts",
    "txt",
    "alt",
    "alt_text",
    "title",
    "description",
)
KEY_COLUMNS = ("key", "__key__", "uid", "sample_id")
# Bytes; a longer line means another format or an unclosed quotation mark.
MAX_LINE_BYTES = 16 * 2**20
COMPRESSED = (".gz", ".tgz")
UTF8_MARK, UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")  # with which a text may begin
UTF8_REMEDY = (
    "convert the files to UTF-8, where they are Latin-1 with iconv -f latin1 -t utf-8 FILE > NEW"
)

BINARY_TYPES = (pa.binary(), pa.large_binary(), pa.binary_view())
TEXT_TYPES = (pa.string(), pa.large_string(), pa.string_view(), *BINARY_TYPES)  # bytes may be text
JSON_KINDS: dict[type, str] = {list: "a list", dict: "an object", bool: "true or false"}

# Key (None: the row's number), values, and flaw or "".
CaptionRow = tuple[str | None, Mapping[str, object], str]
# Of a file with these fields.
Parse = Callable[[io.BufferedReader, Sequence[str]], Iterator[CaptionRow]]
# Of a row: texts, and flaw or "".
ReadTexts = Callable[[str, Mapping[str, object], int], tuple[Sequence[str], str]]


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Rows of a file. A row without a caption has a null, and its flaw is counted."""

    keys: pa.StringArray
    captions: pa.BinaryArray  # not yet validated as UTF-8
    bytes_read: int  # of the file, so far
    flaws: Counter[str] = field(default_factory=Counter)


def collect_batches(
    rows: Iterable[CaptionRow], read: ReadTexts, bytes_read: Callable[[], int]
) -> Iterator[CaptionBatch]:
    """Collect the texts of rows into batches, a null for a row without one.

    A key that is None becomes the row's number, counted from 0.
    """
    keys, captions, flaws = list[str](), list[bytes | None](), Counter[str]()
    num_bytes = 0

    def make_batch() -> CaptionBatch:
        return CaptionBatch(
            pa.array(keys, pa.string()), pa.array(captions, pa.binary()), bytes_read(), flaws
        )

    for number, (given_key, values, flaw) in enumerate(rows):
        key = str(number) if given_key is None else given_key
        texts: Sequence[str] = ()
        if not flaw:
            texts, flaw = read(key, values, number)  # noqa: PLW2901
        if flaw:
            flaws[flaw] += 1
        encoded = [encode_original_bytes(text) for text in texts] or [None]
        keys += [key] * len(encoded)
        captions += encoded
        num_bytes += sum(len(text) for text in encoded if text is not None)
        if len(keys) >= MAX_BATCH_ROWS or num_bytes >= MAX_BATCH_BYTES:
            yield make_batch()
            keys, captions, flaws = [], [], Counter()
            num_bytes = 0
    yield make_batch()


def find_caption_column(names: Sequence[str], requested: str | None) -> str:
    """Return the name of the caption column, or the requested one; ValueError lists the columns."""
    if requested is not None:
        return _require_once(choose(requested, {name: name for name in names}, "column"), names)
    known = find_column(names, CAPTION_COLUMNS)
    if known is None:
        columns = list_names(names)
        raise ValueError(
            f"no column has a name known for captions (there are {columns}): name it with --caption"
        )
    return known


def find_column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first known name among `names`, in any case; ValueError for a name that occurs twice."""
    lower = {name.lower(): name for name in reversed(names)}
    matches = (lower[name] for name in known if name in lower)
    name = next(matches, None)
    return None if name is None else _require_once(name, names)


def find_columns(names: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Return the column of each wanted name: its own, that of an object which a path leads into, or a known name.

    ValueError as `find_caption_column`.
    """
    columns = dict[str, None]()
    for name in wanted:
        column = name
        while column not in names and "." in column:
            column = column.rpartition(".")[0]
        columns[find_caption_column(names, (column if column in names else name) or None)] = None
    return [*columns]


def iterate_values(batch: pa.RecordBatch | pa.Table) -> Iterator[dict[str, object]]:
    """Yield the rows of a batch by column; bytes of texts that are not UTF-8 are surrogates."""
    names = batch.schema.names
    columns = [_to_values(column) for column in batch.columns]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _to_values(column: pa.Array | pa.ChunkedArray) -> Sequence[object]:
    if column.type not in TEXT_TYPES:
        return cast("Sequence[object]", column.to_pylist())
    texts = column.cast(pa.large_binary()).to_pylist()
    return [None if text is None else text.decode("utf-8", "surrogateescape") for text in texts]


def _require_once(name: str, names: Sequence[str]) -> str:
    if names.count(name) > 1:
        raise ValueError(f"{names.count(name)} columns are named {name!r}: rename all but one")
    return name


def read_rows(
    path: Path, names: Sequence[str], read: ReadTexts, parse: Parse
) -> Iterator[CaptionBatch]:
    """Read a file, plain or gzipped, whose content `parse` turns into rows."""
    with path.open("rb") as raw:
        file = raw
        if path.suffix in COMPRESSED:
            file = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw)), 2**20)
        yield from collect_batches(parse(file, names), read, raw.tell)


def split_lines(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield lines without their line breaks; ValueError for a line that is too long, and for UTF-16."""
    for number in count(1):
        line = file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"line {number} is longer than {MAX_LINE_BYTES // 2**20} MiB")
        if number == 1:
            if line.startswith(UTF16_MARKS):
                raise ValueError(
                    "the file is UTF-16, expected UTF-8: convert it with iconv -f utf-16 -t utf-8"
                )
            line = line.removeprefix(UTF8_MARK)
        yield line.rstrip(b"\n").removesuffix(b"\r")


def parse_plain_text(file: io.BufferedReader, names: Sequence[str]) -> Iterator[CaptionRow]:
    """Read one caption per line."""
    if any(names):
        raise ValueError(f"plain text has no fields: leave out --caption {names[0]}")
    return (
        (None, {CAPTION_COLUMNS[0]: line.decode("utf-8", "surrogateescape")}, "")
        for line in split_lines(file)
    )


def parse_json_lines(file: io.BufferedReader, names: Sequence[str]) -> Iterator[CaptionRow]:
    """Read one JSON object per line; the first one determines the key field, and a caption field without a name."""
    is_first = True
    key: str | None = None
    known: str | None = None
    for fields in read_json_lines(file):
        if is_first:
            if fields is None:
                raise ValueError("the first line is not a JSON object")
            key = find_column([*fields], KEY_COLUMNS)
            known = find_caption_column([*fields], None) if "" in names else None
            is_first = False
        if fields is None:
            yield None, {}, NOT_JSON
            continue
        values = fields
        if known is not None:
            values = {known: fields[known]} if known in fields else {}
        yield _to_valid_text(fields.get(key)) if key else None, values, ""


def read_json_lines(file: io.BufferedReader) -> Iterator[dict[str, object] | None]:
    """Yield the object of each line that is not empty; None for anything else."""
    return map(decode_json_object, filter(None, split_lines(file)))


def decode_json_object(line: bytes) -> dict[str, object] | None:
    """Return a JSON object, None for anything else; bytes that are not UTF-8 become surrogates."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            value = json.loads(decode_text(line))
        except (ValueError, RecursionError):
            return None
    except RecursionError:
        return None
    return value if isinstance(value, dict) else None


def decode_text(content: bytes) -> str:
    """Return a file's text without the mark of its encoding; bytes that are neither UTF-8 nor UTF-16 are surrogates."""
    if content.startswith(UTF16_MARKS):
        with suppress(UnicodeDecodeError):
            return content.decode("utf-16")
    return content.removeprefix(UTF8_MARK).decode("utf-8", "surrogateescape")


def encode_original_bytes(value: object) -> bytes | None:
    """Return the original bytes of a text, invalid UTF-8 included; None unless the value is a text."""
    if not isinstance(value, str):
        return None
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # an unpaired surrogate, which JSON can encode
        return value.encode("utf-8", "surrogatepass")


def parse_csv(
    file: io.BufferedReader, names: Sequence[str], *, delimiter: str = ""
) -> Iterator[CaptionRow]:
    """Read csv or tsv. Columns given as numbers, counted from 1, mean that the file has no header."""
    has_header = not all(map(str.isdecimal, names))
    rows = read_csv(file, delimiter or ("" if has_header else ","))
    first = next(rows)
    key: int | None = None
    if has_header:
        places = {name: first.index(name) for name in find_columns(first, names)}
        key_name = find_column(first, KEY_COLUMNS)
        key = None if key_name is None else first.index(key_name)
    else:
        places = {name: int(name) - 1 for name in names}
        outside = [name for name, place in places.items() if not 0 <= place < len(first)]
        if outside:
            raise ValueError(f"no column {outside[0]}: expected 1 to {len(first)}")
        rows = chain([first], rows)
    for values in rows:
        if len(values) == len(first):
            fields = {name: values[place] for name, place in places.items()}
            yield None if key is None else _to_valid_text(values[key]), fields, ""
        else:
            yield None, {}, MISCOUNTED


def read_csv(file: io.BufferedReader, delimiter: str = "") -> Iterator[list[str]]:
    """Yield the first row, then those that are not empty; bytes that are not UTF-8 are surrogates.

    Without a delimiter it is a tab if the first line has one, as open_clip's default is, else a comma or semicolon.
    """
    csv.field_size_limit(MAX_LINE_BYTES)
    lines = (line.decode("utf-8", "surrogateescape") + "\n" for line in split_lines(file))
    first = next(lines, "\n")
    if not delimiter:
        delimiter = "\t" if "\t" in first else max(",;", key=first.count)
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        yield next(rows)
        yield from filter(None, rows)
    except csv.Error as error:
        raise ValueError(
            f"line {rows.line_num}: {error} (is a quotation mark left open?)"
        ) from None


def _to_valid_text(value: object) -> str | None:
    """Return a key as valid Unicode."""
    return (
        None if value is None else str(value).encode("utf-8", "replace").decode("utf-8", "replace")
    )
