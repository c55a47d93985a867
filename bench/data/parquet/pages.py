"""The pages of a column of bytes: where each row's value is, found from the headers alone, and reading one value.

A row group of images has tens or thousands of megabytes, so that reading it for one image is too slow. A page that is
not compressed, or compressed by Snappy, is read in part: Snappy's encoders compress each 64 KiB apart, so that a page
can be cut there. Pages of other codecs are decompressed whole. Source: the specification of Parquet in
apache/parquet-format (README.md, Encodings.md), and google/snappy, format_description.txt.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.data.parquet.thrift import DAMAGED, Fields, ThriftReader
from bench.environment.files import MAX_BYTES

MAGIC, ENDING_BYTES = b"PAR1", 8  # the footer's length and the mark
SHORTER = "the file is truncated, or has become shorter"
CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}  # LZO and Hadoop's LZ4 are not read
UNCOMPRESSED, SNAPPY = 0, 1
DATA, DICTIONARY, DATA_V2 = 0, 2, 3  # kinds of pages
PLAIN, DICTIONARY_ENCODINGS = 0, (2, 8)
HEADER_BYTES, MAX_HEADER_BYTES = 256, 2**20  # of a page's header: usual, and with long statistics
FRAGMENT_BYTES = 2**16  # that Snappy compresses apart
MAX_PAGE_ROWS = 2**24
STRANGE = (EOFError, KeyError, IndexError, TypeError, AttributeError)  # of metadata that are no such structs
LENGTH_BYTES = 4  # before each value, and before the levels of a page
MAPPED_PAGES = 2**15  # that a process remembers: one of 100 images takes 2.5 KiB


class Page(NamedTuple):
    """Where a page's values are in its file."""

    start: int  # of the content, in bytes
    size: int  # in the file
    length: int  # of the content after decompression
    codec: int
    has_levels: bool  # of nulls, before the values

    @property
    def bytes_per_value(self) -> int:
        """Bytes that are read for one value beside it."""
        return 0 if self.codec in (UNCOMPRESSED, SNAPPY) else self.length


@dataclass(frozen=True, slots=True)
class PageRows:
    """Rows whose values are in a page; none is where the encoding is not read here."""

    page: Page | None
    numbers: Sequence[int]  # of the row's value in the page, by row; -1: null


class ColumnChunk(NamedTuple):
    """A column of a row group."""

    start: int
    values: int  # nulls included
    nulls: int | None  # None: unknown
    codec: int


def read_chunks(path: Path, column: int) -> list[ColumnChunk]:
    """Return a column's chunks, one for each row group; ValueError for a damaged footer.

    pyarrow's metadata are not used, because it aborts the process at damaged statistics.
    """
    size = path.stat().st_size
    ending = _read_at(path, size - ENDING_BYTES, ENDING_BYTES)
    length = int.from_bytes(ending[:4], "little")
    if not ending.endswith(MAGIC) or length > min(size - ENDING_BYTES, MAX_BYTES):
        raise ValueError(SHORTER)
    try:
        footer = ThriftReader(_read_at(path, size - ENDING_BYTES - length, length)).read_struct()
        return [_read_chunk(group[1][column]) for group in footer[4]]
    except STRANGE:
        raise ValueError(DAMAGED) from None


def _read_chunk(chunk: Fields) -> ColumnChunk:
    metadata = chunk[3]
    start = min(offset for offset in (metadata.get(11), metadata[9]) if offset)
    return ColumnChunk(start, metadata[5], metadata.get(12, {}).get(3), metadata[4])


def iterate_rows(path: Path, chunk: ColumnChunk, max_level: int) -> Iterator[PageRows]:
    """Yield the rows of a column chunk, page by page; ValueError for damaged pages. Few bytes of values are read.

    `max_level` is the definition level of a value that is no null.
    """
    try:
        with path.open("rb", buffering=0) as file:
            yield from _iterate_rows(path, file, chunk, max_level)
    except STRANGE:
        raise ValueError(DAMAGED) from None


def _iterate_rows(path: Path, file: IO[bytes], chunk: ColumnChunk, max_level: int) -> Iterator[PageRows]:
    at, seen, dictionary = chunk.start, 0, None
    has_nulls = max_level > 0 and chunk.nulls != 0
    while seen < chunk.values:
        header, at = _read_page_header(file, at)
        kind, size, length = header[1], header[3], header[2]
        page = Page(at, size, length, chunk.codec, has_levels=max_level > 0 and kind == DATA)
        at += size
        if kind == DICTIONARY:
            dictionary = page
        if kind not in (DATA, DATA_V2):
            continue
        data, levels = header[5 if kind == DATA else 8], b""
        count, encoding = data[1], data[2 if kind == DATA else 4]
        if not 0 < count <= min(chunk.values - seen, MAX_PAGE_ROWS):
            raise ValueError(DAMAGED)
        if kind == DATA_V2:
            levels = _read_at(path, page.start, data[5] + data[6])
            codec = chunk.codec if data.get(7, True) else UNCOMPRESSED
            page = Page(page.start + len(levels), size - len(levels), length - len(levels), codec, has_levels=False)
        seen += count
        is_dictionary, content = encoding in DICTIONARY_ENCODINGS, b""
        if is_dictionary or (has_nulls and page.has_levels):
            content = bytes(_decompress(path, page))
        if page.has_levels:
            first = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
            levels, content = content[LENGTH_BYTES:first], content[first:]
        if not (has_nulls or is_dictionary):
            yield PageRows(page if encoding == PLAIN else None, range(count))
            continue
        is_there = (
            decode_rle_bit_packed(levels, max_level.bit_length(), count) == max_level
            if has_nulls
            else np.ones(count, bool)
        )
        numbers, there = np.full(count, -1), int(is_there.sum())
        numbers[is_there] = (
            decode_rle_bit_packed(content[1:], content[0], there) if is_dictionary and content else np.arange(there)
        )
        yield PageRows(dictionary if is_dictionary else page if encoding == PLAIN else None, numbers.tolist())


def _read_page_header(file: IO[bytes], at: int) -> tuple[Fields, int]:
    """Return a page's header and where its content begins."""
    for most in (HEADER_BYTES, MAX_HEADER_BYTES):
        file.seek(at)
        reader = ThriftReader(file.read(most))
        try:
            header = reader.read_struct()
        except EOFError:
            continue
        if 0 <= min(header[2], header[3]) <= max(header[2], header[3]) < 2**31:
            return header, at + reader.offset
        break
    raise ValueError(DAMAGED)


def decode_rle_bit_packed(content: bytes, width: int, count: int) -> npt.NDArray[np.int64]:
    """Decode `count` numbers of `width` bits: Parquet's hybrid of run lengths and bit packing."""
    parts, found, reader = list[npt.NDArray[np.int64]](), 0, ThriftReader(content)
    while found < count:
        header = reader.read_varint()
        if header & 1:
            packed = np.frombuffer(reader.read_bytes((header >> 1) * width), np.uint8)
            bits = np.unpackbits(packed, bitorder="little").reshape(-1, max(width, 1)).astype(np.int64)
            part = bits @ (1 << np.arange(max(width, 1)))
        else:
            part = np.full(min(header >> 1, count), int.from_bytes(reader.read_bytes(-(-width // 8)), "little"))
        if not len(part):
            raise ValueError(DAMAGED)
        parts.append(part)
        found += len(part)
    return np.concatenate([*parts, np.zeros(0, np.int64)])[:count]


def read_value(path: Path, page: Page, number: int) -> bytes:
    """Read a value of a page; ValueError or OSError if the file has changed."""
    layout = _map_page(path, page, path.stat().st_mtime_ns)
    if not 0 <= number < len(layout.starts) - 1:
        raise ValueError(DAMAGED)
    first, last = layout.starts[number] + LENGTH_BYTES, layout.starts[number + 1]
    if page.codec == UNCOMPRESSED:
        return _read_at(path, page.start + first, last - first)
    if layout.fragments:
        return _read_fragments(path, page, layout.fragments, first, last)
    return bytes(_decompress(path, page)[first:last])


@dataclass(frozen=True, slots=True)
class _PageLayout:
    starts: "array[int]"  # of values in the content, and its end
    fragments: "array[int]"  # offsets of Snappy's fragments in the compressed bytes, and their end; empty: none


@lru_cache(MAPPED_PAGES)
def _map_page(path: Path, page: Page, _modified: int) -> _PageLayout:
    """Find the values of a page."""
    if page.codec == UNCOMPRESSED:
        with path.open("rb", buffering=0) as file:

            def read_length(at: int) -> bytes:
                file.seek(page.start + at)
                return file.read(LENGTH_BYTES)

            return _PageLayout(_find_values(page, read_length), array("q"))
    content = _decompress(path, page)
    fragments = find_fragments(_read_at(path, page.start, page.size)) if page.codec == SNAPPY else None
    return _PageLayout(_find_values(page, lambda at: content[at : at + LENGTH_BYTES]), fragments or array("q"))


def _find_values(page: Page, read_length: Callable[[int], bytes | memoryview]) -> "array[int]":
    at = LENGTH_BYTES + int.from_bytes(read_length(0), "little") if page.has_levels else 0
    starts = array("q", [at])
    while at < page.length:
        at += LENGTH_BYTES + int.from_bytes(read_length(at), "little")
        starts.append(at)
    if at != page.length:
        raise ValueError(DAMAGED)
    return starts


def find_fragments(content: bytes) -> "array[int] | None":
    """Return where the fragments of a Snappy stream begin and end; None if they are not apart."""
    reader = ThriftReader(content)
    length, at, produced, begun = reader.read_varint(), reader.offset, 0, 0
    fragments = array("q", [at])
    while produced < length:
        tag = content[at]
        kind, at, distance = tag & 3, at + 1, 0
        if kind == 0:
            size = (tag >> 2) + 1
            if (more := size - 60) > 0:
                size, at = int.from_bytes(content[at : at + more], "little") + 1, at + more
            at += size
        elif kind == 1:
            size, distance, at = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | content[at], at + 1
        else:
            more = 2 if kind == 2 else 4  # noqa: PLR2004 - bytes of the distance
            size, distance, at = (tag >> 2) + 1, int.from_bytes(content[at : at + more], "little"), at + more
        if distance > produced - begun:
            return None
        produced += size
        if produced - begun >= FRAGMENT_BYTES or produced == length:
            if produced - begun > FRAGMENT_BYTES:
                return None
            fragments.append(at)
            begun = produced
    return fragments


def _read_fragments(path: Path, page: Page, fragments: "array[int]", first: int, last: int) -> bytes:
    """Read a range of a Snappy page's content: the fragments around it, as a stream of their own."""
    begin, end = first // FRAGMENT_BYTES, -(-last // FRAGMENT_BYTES)
    offset = begin * FRAGMENT_BYTES
    length = min(end * FRAGMENT_BYTES, page.length) - offset
    compressed = _read_at(path, page.start + fragments[begin], fragments[end] - fragments[begin])
    content = memoryview(pa.Codec("snappy").decompress(_to_varint(length) + compressed, length))
    return bytes(content[first - offset : last - offset])


def _to_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - the bits of a byte
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _decompress(path: Path, page: Page) -> memoryview:
    """Read a page; the buffers are those of Arrow, which keeps their memory: fresh memory would cost ten times more."""
    name = CODECS.get(page.codec)
    if name is None and page.codec != UNCOMPRESSED:
        raise ValueError(f"its pages are compressed by codec {page.codec}, which is not read: write it with another")
    with pa.memory_map(str(path)) as file:
        file.seek(page.start)
        content = file.read_buffer(page.size)
    if len(content) < page.size:
        raise ValueError(SHORTER)
    return memoryview(content if name is None else pa.Codec(name).decompress(content, page.length))


def _read_at(path: Path, at: int, size: int) -> bytes:
    """Read bytes at a place; ValueError if the file ends before."""
    with path.open("rb", buffering=0) as file:
        file.seek(max(at, 0))
        content = file.read(max(size, 0))
    if len(content) != size:
        raise ValueError(SHORTER)
    return content
