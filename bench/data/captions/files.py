"""Files of captions of any format: finding them, and reading them as batches in the file's order.

Memory does not grow with a file's size.
"""

import csv
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from hashlib import sha256
from io import BufferedReader
from os.path import commonpath
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.config import choose
from bench.data.captions import batches
from bench.data.captions.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS, CaptionBatch, CaptionRow
from bench.data.shards.tar_samples import Member, iterate_samples
from bench.environment.files import prefix_errors

BUFFER_BYTES = 2**20  # of a column chunk in memory at once: a row group may be the whole file
PAGE_BYTES = 2**20  # of a column chunk's page, as all writers make them
READ_ROWS = 4096  # of a parquet file at once, which are then joined to batches; more are no faster
MAX_DECODED_BYTES, MAX_EXPANSION = 2**30, 100  # of all captions of a file: the sum of bytes and of times its size
DIGEST_BYTES = 2**16  # read at each of three places of a file
_open_parquet = partial(pq.ParquetFile, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)


def read_parquet(path: Path, column: str | None) -> Iterator[CaptionBatch]:
    """Read the caption column and the key column; without a key column the key is the row's number, from 0."""
    size = path.stat().st_size
    with _open_parquet(path) as file:
        names, total, before = file.schema_arrow.names, file.metadata.num_rows, 0
        name, key = batches.find_caption_column(names, column), batches.find_column(names, batches.KEY_COLUMNS)
        kind = file.schema_arrow.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(kind) or pa.types.is_null(kind)):
            raise ValueError(f"column {name!r} holds {kind}, expected text")
        if key is not None and pa.types.is_nested(file.schema_arrow.field(key).type):
            raise ValueError(f"the key column holds {file.schema_arrow.field(key).type}, expected text or numbers")
        for table in _join_batches(_decode_batches(path, file, list(dict.fromkeys((name, key or name))))):
            rows = len(table)
            keys = pa.array(np.arange(before, before + rows)) if key is None else table[key].combine_chunks()
            before += rows
            captions = table[name].combine_chunks().cast(pa.binary())
            yield CaptionBatch(keys.cast(pa.string()), captions, size * before // max(total, 1))
        if before != total:
            raise ValueError(f"the file is truncated: {before} of its {total} rows can be read")


def _decode_batches(path: Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield decoded rows, few at once if one can be long: a value of a dictionary is stored once for all its rows."""
    are_dictionaries = all(pa.types.is_dictionary(file.schema_arrow.field(column).type) for column in columns)
    size = path.stat().st_size
    with _open_parquet(path, metadata=file.metadata, read_dictionary=columns) as encoded:
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)  # not its columns: pyarrow aborts the process at damaged statistics
            total = group.total_byte_size
            longest = max(_longest_value(encoded, number, columns, total, size), total // max(group.num_rows, 1), 1)
            rows = max(1, min(READ_ROWS, MAX_BATCH_ROWS, MAX_BATCH_BYTES // longest))
            step = MAX_BATCH_ROWS if are_dictionaries else rows  # each batch of dictionaries copies them
            for batch in file.iter_batches(step, row_groups=[number], columns=columns):
                for first in range(0, len(batch), rows):
                    part = batch.slice(first, rows).columns
                    decoded = [each.dictionary_decode() if pa.types.is_dictionary(each.type) else each for each in part]
                    yield pa.RecordBatch.from_arrays(decoded, batch.schema.names)


def _longest_value(encoded: pq.ParquetFile, group: int, columns: list[str], total: int, size: int) -> int:
    """Return the bytes of the longest value in the dictionaries of a row group, or a bound where they cannot be read.

    The group has `total` bytes before compression, the file `size`.
    """
    try:
        first = next(encoded.iter_batches(1, row_groups=[group], columns=columns), None)
    except (OSError, pa.ArrowNotImplementedError):
        # The values are differences from the ones before: one is no longer than all differences of its page.
        return total if total > MAX_EXPANSION * size else min(total, PAGE_BYTES)
    arrays = [] if first is None else [array for array in first.columns if pa.types.is_dictionary(array.type)]
    return max((pc.max(pc.binary_length(each.dictionary)).as_py() or 0 for each in arrays), default=0)


def _join_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join small batches into those of the labels."""
    parts, rows, num_bytes = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        if parts and (rows + len(batch) > MAX_BATCH_ROWS or num_bytes + batch.nbytes > MAX_BATCH_BYTES):
            yield pa.Table.from_batches(parts)
            parts, rows, num_bytes = [], 0, 0
        parts.append(batch)
        rows, num_bytes = rows + len(batch), num_bytes + batch.nbytes
    if parts:
        yield pa.Table.from_batches(parts)


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(test(kind) for test in (*tests, *binary))


def parse_tar(file: BufferedReader, column: str | None) -> Iterator[CaptionRow]:
    """Read a shard; ValueError if it ends before its end mark, or if all of its samples lack a caption."""
    reader, suffixes, has_captions = SampleCaptionReader(column), set[str](), False
    for key, members in iterate_samples(file):
        suffixes.update(members)
        caption, flaw = reader.read(members)
        has_captions = has_captions or caption is not None or not flaw
        yield key, caption, flaw
    if suffixes and not has_captions:
        wanted = repr(column) if column else "a .txt or .json caption"
        there = ", ".join(f".{suffix}" for suffix in sorted(suffixes))
        raise ValueError(f"none of its samples has {wanted} (there are {there})")


class SampleCaptionReader:
    """Reads each sample's `.txt`, else a field of its `.json`; the first JSON object determines the field."""

    def __init__(self, column: str | None) -> None:
        self._text_only = column in ("txt", ".txt")
        self._column, self._field = column, None if self._text_only else column

    def read(self, members: Mapping[str, Member]) -> tuple[bytes | None, str]:
        """Return a sample's caption and its flaw."""
        if "txt" in members and (self._column is None or self._text_only):
            return members["txt"].content, ""
        if "json" not in members or self._text_only:
            return None, batches.NO_CAPTION
        fields = batches.decode_json_object(members["json"].content)
        if fields is None:
            return None, batches.NOT_JSON
        if self._field is None:
            self._field = batches.find_caption_column([*fields], None)
        return batches.read_caption_and_flaw(fields, self._field)


PARSERS: dict[str, batches.Parse] = {
    ".csv": partial(batches.parse_csv, delimiter=","),
    ".tsv": partial(batches.parse_csv, delimiter="\t"),
    ".jsonl": batches.parse_json_lines,
    ".ndjson": batches.parse_json_lines,
    ".txt": batches.parse_plain_text,
    ".tar": parse_tar,
}
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
READERS: dict[str, Callable[[Path, str | None], Iterator[CaptionBatch]]] = {
    ".parquet": read_parquet,
    **{name + gz: partial(batches.read_rows, parse=parse) for gz in ("", ".gz") for name, parse in PARSERS.items()},
    ".tgz": partial(batches.read_rows, parse=parse_tar),
}
COLUMN_REMEDY = "rename the column that holds them to caption"
UNREADABLE = (ValueError, OSError, EOFError, tarfile.TarError, zlib.error, csv.Error)


def read_captions(path: Path, column: str | None, remedy: str = COLUMN_REMEDY) -> Iterator[CaptionBatch]:
    """Read a file; ValueError names it and the reason why it cannot be read, also if that shows late.

    `remedy` is for a file without a column whose name is known for captions.
    """
    with prefix_errors(path, UNREADABLE), batches.advise_on_column(remedy):
        if (size := path.stat().st_size) == 0:
            raise ValueError("the file is empty")
        decoded, read = 0, choose(compound_suffix(path), READERS, "format of captions with the suffix")
        for batch in read(path, column):
            decoded += batch.keys.nbytes + batch.captions.nbytes
            if decoded > MAX_DECODED_BYTES + MAX_EXPANSION * size:
                raise ValueError(f"{size:,} bytes hold over {decoded:,} bytes of captions, as no real captions do")
            yield batch


def compound_suffix(path: Path) -> str:
    """Return a file's suffix in lower case, including the one before `.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [".gz"] else suffixes[-1:])


@dataclass(frozen=True, slots=True)
class CaptionFile:
    """A file of captions, an input of the labelling."""

    path: Path
    name: str  # path below the common folder of all inputs, with `/`

    @property
    def labels_name(self) -> str:
        """Path of the file of labels, below the folder for labels."""
        return f"{self.name[: len(self.name) - len(compound_suffix(self.path))]}.parquet"


def find_caption_files(inputs: Iterable[str], out: Path | None = None) -> list[CaptionFile]:
    """Return the files of names, globs and folders, each once, sorted; ValueError for an input without files.

    If a folder contains `out`, the files in `out` are excluded: they hold labels.
    """
    paths = {path for each in inputs for path in _find_paths(each, out)}
    if not paths:
        raise ValueError("no input given: name parquet, csv, tsv, jsonl, txt or tar files, globs or folders")
    root = Path(commonpath([path.parent for path in paths]))
    return sorted((CaptionFile(path, path.relative_to(root).as_posix()) for path in paths), key=lambda file: file.name)


def _find_paths(name: str, out: Path | None) -> list[Path]:
    found, folder = list_files(name), Path(name).absolute()
    if folder.is_dir():
        found = [path for path in found if compound_suffix(path) in READERS]
        if out is not None and folder in out.absolute().parents:
            found = [path for path in found if out.absolute() not in path.parents]
    if not found:
        raise ValueError(f"{name}: no file of captions found (suffixes that are read: {', '.join(READERS)})")
    return found


def list_files(name: str) -> list[Path]:
    """Return a file, the visible files below a folder, or those of a glob; ValueError for another name."""
    path = Path(name).absolute()
    if path.is_file():
        return [path]
    if path.is_dir():
        return [one for one in path.rglob("*") if one.is_file() and not one.name.startswith(".")]
    if not has_magic(name):
        raise ValueError(f"no file, folder or glob {name!r}")
    return [one.absolute() for one in map(Path, glob(name, recursive=True)) if one.is_file()]  # noqa: PTH207 - a person's


def select_part(files: Sequence[CaptionFile], part: str) -> list[CaptionFile]:
    """Return part "k/n" of the files, k from 1 to n: every n-th file."""
    match = re.fullmatch(r"([1-9][0-9]{0,9})/([1-9][0-9]{0,9})", part)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shards {part!r}: expected k/n with k from 1 to n")
    return list(files[int(match[1]) - 1 :: int(match[2])])


def digest_file_samples(path: Path) -> str:
    """Return a hash of a file's size and of 64 KiB at its beginning, middle and end.

    An edit outside these that keeps the size is not detected.
    """
    size = path.stat().st_size
    digest = sha256(str(size).encode())
    with path.open("rb") as file:
        for offset in (0, (size - DIGEST_BYTES) // 2, size - DIGEST_BYTES):
            file.seek(max(0, offset))
            digest.update(file.read(DIGEST_BYTES))
    return digest.hexdigest()[:16]
