"""Files of captions of any format: finding them, and reading them as batches in the file's order.

Memory does not grow with a file's size.
"""

import csv
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from hashlib import sha256
from io import BufferedReader
from itertools import chain
from os.path import commonpath
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.data.captions import batches
from bench.data.captions.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS, CaptionBatch, CaptionRow, ReadTexts
from bench.data.captions.choice import (
    FOUND_BY_NAME,
    NOT_AN_OBJECT,
    CaptionChoice,
    Texts,
    parse_caption_choice,
    text_names,
)
from bench.data.captions.key_join import CaptionFieldCounts, CaptionFieldReader, joined_files
from bench.data.shards.tar_samples import CAPTION_SUFFIXES, Member, find_captions, iterate_samples, last_suffix
from bench.environment.files import prefix_errors
from bench.experiment.config import choose

BUFFER_BYTES = 2**20  # of a column chunk in memory at once: a row group may be the whole file
PAGE_BYTES = 2**20  # of a column chunk's page, as all writers make them
READ_ROWS = 4096  # of a parquet file at once, which are then joined to batches; more are no faster
MAX_DECODED_BYTES, MAX_EXPANSION = 2**30, 100  # of all captions of a file: the sum of bytes and of times its size
PEEKED_SAMPLES = 20  # of a file, of which all texts are looked at, also those that are not read
DIGEST_BYTES = 2**16  # read at each of three places of a file
open_parquet = partial(pq.ParquetFile, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)


def read_parquet(path: Path, reader: CaptionFieldReader, read: ReadTexts) -> Iterator[CaptionBatch]:
    """Read the caption columns and the key column; without a key column the key is the row's number, from 0."""
    size = path.stat().st_size
    with open_parquet(path) as file:
        names, total, before = file.schema_arrow.names, file.metadata.num_rows, 0
        columns, key = batches.find_columns(names, reader.choice.names), batches.find_column(names, batches.KEY_COLUMNS)
        kinds = {name: _require_text(name, file.schema_arrow.field(name).type) for name in columns}
        if key is not None and pa.types.is_nested(file.schema_arrow.field(key).type):
            raise ValueError(f"the key column holds {file.schema_arrow.field(key).type}, expected text or numbers")

        def tables() -> Iterator[pa.Table]:
            nonlocal before
            there = [*dict.fromkeys([*columns, *filter(None, [key])])]
            for table in _join_batches(iterate_decoded_batches(path, file, there)):
                keys = pa.array(np.arange(before, before + len(table))) if key is None else table[key].combine_chunks()
                before += len(table)
                yield table.select(columns).append_column("", keys.cast(pa.string()))

        if len(reader.choice.fields) == len(columns) == 1 and not pa.types.is_nested(kinds[columns[0]]):
            for table in tables():  # a text a row, which stays in Arrow
                captions = table[columns[0]].combine_chunks().cast(pa.binary())
                reader.found.count(str(reader.choice.fields[0]), len(captions) - captions.null_count)
                yield CaptionBatch(table[""].combine_chunks(), captions, size * before // max(total, 1))
        else:
            values = (row for table in tables() for row in batches.iterate_values(table))
            rows = ((cast("str | None", row.pop("")), row, "") for row in values)
            yield from batches.collect_batches(rows, read, lambda: size * before // max(total, 1))
        if before != total:
            raise ValueError(f"the file is truncated: {before} of its {total} rows can be read")


def _require_text(name: str, kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values; ValueError unless it is text, lists of text, or objects."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not (inner in batches.TEXT_TYPES or pa.types.is_null(inner) or pa.types.is_struct(inner)):
        raise ValueError(f"column {name!r} holds {kind}, expected text")
    return kind


def iterate_decoded_batches(path: Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield decoded rows, few at once if one can be long: a value of a dictionary is stored once for all its rows."""
    are_dictionaries = all(pa.types.is_dictionary(file.schema_arrow.field(column).type) for column in columns)
    size = path.stat().st_size
    flat = [column for column in columns if not pa.types.is_nested(file.schema_arrow.field(column).type)]
    with open_parquet(path, metadata=file.metadata, read_dictionary=flat) as encoded:
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


class TarCaptionReader(CaptionFieldReader):
    """Reads the captions of tar samples; by default a sample's `.txt`, else a field of its `.json`.

    The first JSON object determines a field that is found by its name.
    """

    def __init__(self, choice: CaptionChoice, found: CaptionFieldCounts | None = None) -> None:
        super().__init__(choice, found)
        self._known = ""  # name of the field of JSON objects

    def parse(self, file: BufferedReader, _: Sequence[str]) -> Iterator[CaptionRow]:
        """Read the samples of a shard; ValueError if it ends before its end mark."""
        return ((key, self.values(members), "") for key, members in iterate_samples(file))

    def values(self, members: Mapping[str, Member]) -> dict[str, object]:
        """Return the values of the members that the choice reads: texts, and JSON objects or NOT_AN_OBJECT."""
        is_default, plain = "" in self.choice.names, find_captions(members)
        self.found.add_names(name if last_suffix(name) == "txt" and not is_default else f".{name}" for name in members)
        if is_default:
            if self._rows < PEEKED_SAMPLES:
                texts = [name for name in plain if last_suffix(name) in CAPTION_SUFFIXES]
                if plain is not members:  # the compound ones have plain names, too
                    texts = [name for name in texts if name in CAPTION_SUFFIXES]
                for name in texts:
                    self.found.add_names(
                        text_names({name: "" if last_suffix(name) == "txt" else _decode(name, plain[name])})
                    )
            return self._default_values(plain)
        return {suffix: _decode(suffix, member) for suffix, member in plain.items() if self._reads(suffix)}

    def _default_values(self, members: Mapping[str, Member]) -> dict[str, object]:
        if "txt" in members or "json" not in members:
            return {"txt": _decode("txt", members["txt"])} if "txt" in members else {}
        fields = _decode("json", members["json"])
        if isinstance(fields, dict):
            self._known = self._known or batches.find_caption_column([*fields], None)
            fields = {name: value for name, value in fields.items() if name == self._known}
        return {"json": fields}

    def _reads(self, suffix: str) -> bool:
        """Return whether a member is read: a named text, or an object that a name leads into, perhaps without json."""
        if last_suffix(suffix) == "txt":
            return suffix in self.choice.names
        return last_suffix(suffix) == "json" and any(
            name.startswith(f"{suffix}.") or (suffix == "json" and name != "txt") for name in self.choice.names
        )


def _decode(suffix: str, member: Member) -> object:
    if last_suffix(suffix) == "txt":
        return batches.decode_text(member.content)
    fields = batches.decode_json_object(member.content)
    return NOT_AN_OBJECT if fields is None else fields


PARSERS: dict[str, batches.Parse] = {
    ".csv": batches.parse_csv,
    ".tsv": partial(batches.parse_csv, delimiter="\t"),
    ".jsonl": batches.parse_json_lines,
    ".ndjson": batches.parse_json_lines,
    ".txt": batches.parse_plain_text,
}
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
SUFFIXES = (".parquet", *(name + gz for gz in ("", ".gz") for name in PARSERS), *TAR_SUFFIXES)
Selection = Literal["all", "one", "drawn"]  # of a row's texts: all, the only one, or one drawn by the row's number
LABELS_REMEDY = "train computes labels of drawn texts while loading, leave out --labels"
UNREADABLE = (ValueError, OSError, EOFError, tarfile.TarError, zlib.error, csv.Error)


def read_captions(
    path: Path, caption: str | None, selection: Selection = "all", found: CaptionFieldCounts | None = None
) -> Iterator[CaptionBatch]:
    """Read the selected texts of a file by a choice of captions; count them in `found`.

    ValueError names the file and the reason why it cannot be read, also if that shows late.
    """
    choice = parse_caption_choice(caption)
    with prefix_errors(path, UNREADABLE):
        if (size := path.stat().st_size) == 0:
            raise ValueError("the file is empty")
        suffix, decoded = compound_suffix(path), 0
        choose(suffix, dict.fromkeys(SUFFIXES), "format of captions with the suffix")
        reader = (TarCaptionReader if suffix in TAR_SUFFIXES else CaptionFieldReader)(choice, found)

        def read(key: str, values: Mapping[str, object], row: int) -> tuple[Sequence[str], str]:
            texts, flaw = reader.read(key, values)
            return _select(choice, selection, texts, key, row), flaw

        if suffix == ".parquet":
            rows = read_parquet(path, reader, read)
        else:
            parse = reader.parse if isinstance(reader, TarCaptionReader) else PARSERS[suffix.removesuffix(".gz")]
            rows = batches.read_rows(path, choice.names, read, parse)
        for batch in rows:
            decoded += batch.keys.nbytes + batch.captions.nbytes
            if decoded > MAX_DECODED_BYTES + MAX_EXPANSION * size:
                raise ValueError(f"{size:,} bytes hold over {decoded:,} bytes of captions, as no real captions do")
            yield batch
        reader.require_any()


def _select(choice: CaptionChoice, selection: Selection, texts: Texts, key: str, row: int) -> list[str]:
    """Return the selected texts of a row; ValueError for several where one is selected."""
    if selection == "all":
        return [*chain.from_iterable(texts)]
    if selection == "drawn":
        return [choice.draw(texts, 0, row, 0)] if any(texts) else []
    options = choice.options(texts)
    if len(options) > 1:
        raise ValueError(f"{key} has {len(options)} texts to draw from, and stored labels are of one: {LABELS_REMEDY}")
    return [text for text, _ in options]


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
    found, folder = expand_path_or_glob(name), Path(name).absolute()
    if folder.is_dir():
        found = [path for path in found if compound_suffix(path) in SUFFIXES]
        if out is not None and folder in out.absolute().parents:
            found = [path for path in found if out.absolute() not in path.parents]
    if not found:
        raise ValueError(f"{name}: no file of captions found (suffixes that are read: {', '.join(SUFFIXES)})")
    return found


def expand_path_or_glob(name: str) -> list[Path]:
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


def digest_file_excerpts(path: Path) -> str:
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


def choice_digest(choice: CaptionChoice) -> str:
    """Return a digest of the fields that a choice reads, joined files included; empty for the default.

    Probabilities are left out: they change which texts are drawn, not which there are.
    """
    if choice == FOUND_BY_NAME:
        return ""
    content = [*map(str, choice.fields), *map(digest_file_excerpts, joined_files(choice))]
    return sha256("\n".join(content).encode(errors="surrogateescape")).hexdigest()[:16]
