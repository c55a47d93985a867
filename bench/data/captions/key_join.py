"""Captions of parquet files that are joined to samples by key, and the counts of what a choice finds."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from glob import glob
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.captions.batches import CAPTION_COLUMNS, KEY_COLUMNS, NULL, TEXT_TYPES, find_column, find_columns
from bench.data.captions.choice import FOUND_BY_NAME, CaptionChoice, CaptionField, Texts, text_names, to_valid_text
from bench.environment.files import prefix_errors
from bench.experiment.config import MAX_LISTED_NAMES, MAX_NAME_LENGTH, list_names

SHOWN_KEYS = 3  # of samples and of files, in a message
NAMED_SAMPLES = 1000  # whose names of fields are collected for messages


class CaptionFieldCounts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How many samples have a text in each field of a choice, and what a message on a field that none has needs."""

    samples: dict[str, int] = {}  # with a text, by field
    names: dict[str, None] = {}  # of texts that there are, the first ones
    known: dict[str, None] = {}  # names that a field was found by, of the first samples
    keys: list[str] = []  # of the first samples

    def count(self, field: str, samples: int = 1) -> None:
        """Add samples that have a text in a field."""
        self.samples[field] = self.samples.get(field, 0) + samples

    def add_names(self, names: Iterable[str]) -> None:
        """Add names, unless there are many already."""
        room = max(0, MAX_LISTED_NAMES - len(self.names))
        self.names |= dict.fromkeys(to_valid_text(name[:MAX_NAME_LENGTH]) for name in islice(names, room))

    def add(self, other: "CaptionFieldCounts") -> None:
        """Add what was found in other files."""
        for field, samples in other.samples.items():
            self.count(field, samples)
        self.add_names(other.names)
        self.known |= other.known
        self.keys += other.keys[: max(0, SHOWN_KEYS - len(self.keys))]

    def describe(self) -> str:
        """Say which names captions are read from, and which other texts there are; empty if none is read."""
        read = [*self.known] or [*filter(None, self.samples)]
        read_or_keys = {*KEY_COLUMNS, *read, *(name.partition(".")[0] for name in read)}  # also the objects of paths
        others = [
            name
            for name in self.names
            if not name.startswith(".") and not {name, name.removeprefix("json.")} & read_or_keys
        ]
        unread = f"; not read: {list_names(others)} (others with --caption)" if others else ""
        return f"captions are read from {list_names(read)}{unread}" if read else ""

    def require(self, choice: CaptionChoice) -> None:
        """Raise ValueError for a named field that no sample has, or joined captions whose keys are of no sample."""
        for one in choice.fields:
            if self.samples.get(str(one)) or not str(one):
                continue
            if one.file:
                theirs = list_names([*islice(_read_table(one).rows, SHOWN_KEYS)])
                raise ValueError(
                    f"no sample has a caption in {one}, joined by key: keys of samples are {list_names(self.keys)}, "
                    f"keys of {one.file} are {theirs}"
                )
            near = get_close_matches(one.name, self.names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            there = list_names(sorted(self.names)) or "none"
            raise ValueError(f"no sample has a caption named {one.name!r}{hint} (there are {there})")


class CaptionFieldReader:
    """Reads the texts of samples by a choice, joined captions included, and counts the fields that there are."""

    def __init__(self, choice: CaptionChoice, found: CaptionFieldCounts | None = None) -> None:
        self.choice, self.found = choice, CaptionFieldCounts() if found is None else found
        self._fields = [*map(str, choice.fields)]
        self._joined = {str(one): _read_table(one) for one in choice.fields if one.file}
        self._rows, self._has_any = 0, False

    def read(self, key: str, values: Mapping[str, object]) -> tuple[Texts, str]:
        """Return the texts of a sample by field, and its flaw or "", as `CaptionChoice.read`."""
        if self._rows >= NAMED_SAMPLES and (text := self.choice.only_text(values)) is not None:
            self.found.count(self._fields[0])
            self._has_any = True
            return ((text,),), ""
        if self._joined:
            found_texts = {name: table.find(key) for name, table in self._joined.items()}
            values = {**values, **{name: texts for name, texts in found_texts.items() if texts}}
        texts, flaw = self.choice.read(values)
        found = self.found
        for field, each in zip(self._fields, texts, strict=True):
            if each:
                found.count(field)
        if self._rows < NAMED_SAMPLES:
            names = [name for name in text_names(values) if name not in self._joined]
            found.add_names(names)
            if self.choice == FOUND_BY_NAME and texts[0]:
                found.known |= dict.fromkeys(map(to_valid_text, names))
        if len(found.keys) < SHOWN_KEYS:
            found.keys.append(to_valid_text(key))
        self._rows += 1
        self._has_any = self._has_any or flaw in ("", NULL)
        return texts, flaw

    def require_any(self) -> None:
        """Raise ValueError if no sample that was read has a caption, not even a null, and none may be joined."""
        if self._rows and not self._has_any and not self._joined:
            self.found.require(self.choice)
            there = list_names(sorted(self.found.names)) or "none"
            raise ValueError(f"none of its samples has a .txt or .json caption (there are {there})")


class _Table:
    """Captions by key; a key that occurs several times has several captions."""

    def __init__(self, rows: dict[str, list[int]], values: pa.ChunkedArray, column: str, name: str) -> None:
        self.rows, self._values, self._column = rows, values, column
        self._choice = CaptionChoice((CaptionField(name),))

    def find(self, key: str) -> list[str]:
        """Return the captions of a key, none if it has none."""
        rows = self.rows.get(_bare(key), ())
        found = (self._choice.read({self._column: self._values[row].as_py()})[0][0] for row in rows)
        return [text for texts in found for text in texts]


def joined_files(choice: CaptionChoice) -> list[Path]:
    """Return the files whose captions are joined; ValueError where there is none."""
    return [path for one in choice.fields if one.file for path in _find_files(one)]


def _find_files(one: CaptionField) -> list[Path]:
    paths = sorted(Path(name).absolute() for name in glob(one.file, recursive=True) if Path(name).is_file())  # noqa: PTH207 - a person's
    if not paths:
        raise ValueError(f"caption {one}: no file {one.file!r}, expected a parquet file or a glob of such")
    return paths


def _read_table(one: CaptionField) -> _Table:
    """Read the joined captions of a field, once for all shards; ValueError names a file that cannot be."""
    found = [(path, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in _find_files(one)]
    return _cached_table(one.name, tuple(found))


@lru_cache(maxsize=4)
def _cached_table(name: str, files: tuple[tuple[Path, int, int], ...]) -> _Table:
    rows, columns, count, column = dict[str, list[int]](), list[pa.ChunkedArray](), 0, ""
    for path, *_ in files:
        with prefix_errors(path, (ValueError, OSError)):
            keys, column, values = _read_file(path, name)
            if columns and values.type != columns[0].type:
                raise ValueError(f"column {column!r} holds {values.type}, in {files[0][0]} it holds {columns[0].type}")
        for row, key in enumerate(keys, count):
            if key is not None:
                rows.setdefault(_bare(key), []).append(row)
        count += len(values)
        columns.append(values)
    joined = pa.chunked_array([chunk for values in columns for chunk in values.chunks], columns[0].type)
    return _Table(rows, joined, column if name else CAPTION_COLUMNS[0], name)


def _read_file(path: Path, name: str) -> tuple[list[str | None], str, pa.ChunkedArray]:
    """Return the keys of a file, and the name and the values of its column of captions."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        (column,), key = find_columns(names, [name]), find_column(names, KEY_COLUMNS)
        if key is None:
            raise ValueError(f"no key column; expected {' or '.join(KEY_COLUMNS)} (there are {list_names(names)})")
        if pa.types.is_nested(kind := file.schema_arrow.field(key).type):
            raise ValueError(f"the key column holds {kind}, expected text or numbers")
        table = file.read([*dict.fromkeys((key, column))])
    keys, values = table[key].cast(pa.string()).to_pylist(), table[column]
    return keys, column, values.cast(pa.large_string()) if values.type in TEXT_TYPES else values


def _bare(key: str) -> str:
    """Return a key without the dot that `tar -C FOLDER .` writes before each name."""
    return key.removeprefix("./")
