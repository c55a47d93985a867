"""The index of samples in the cache: an Arrow file for each file of the data, which every process maps into memory.

All sources of files share it. It holds the usable samples with their texts and the places of their images, and counts
the others by what they lack.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from bench.console.progress import show_progress
from bench.data.captions.batches import (
    KEY_COLUMNS,
    MAX_BATCH_ROWS,
    UTF8_REMEDY,
    find_column,
    find_columns,
)
from bench.data.captions.choice import Texts, to_valid_text
from bench.data.captions.fields import CaptionFieldCounts, CaptionFieldReader
from bench.data.captions.files import UNREADABLE
from bench.data.paths import digest_file_excerpts
from bench.environment.files import MAX_BYTES, atomic_write, decode_json, prefix_errors
from bench.experiment.config import list_names
from bench.interfaces.data_source import DataSource, SampleRequest, Samples

INDEX_FORMAT = 6  # raise it when the same file gives another index
METADATA_KEY = b"catlip-bench.index"
COLUMNS = (
    ("key", pa.large_string()),
    ("place", pa.int64()),  # among all samples of the file, unusable ones included
    ("texts", pa.list_(pa.list_(pa.large_string()))),  # by field of the choice of captions
)
UNREAD = "image in .{}, which is not read"

Places = tuple[tuple[str, pa.DataType], ...]  # columns that say where an image is


@dataclass(frozen=True, slots=True)
class SampleKind:
    """The images or embeddings that are trained on, and whether a sample must have a caption."""

    kind: str  # in the index's name
    noun: str
    suffixes: tuple[str, ...]  # of several in a sample, the first of these
    is_caption_required: bool = True
    unread: tuple[str, ...] = ()  # suffixes of formats that are not read

    def unread_format_flaw(self, suffixes: Iterable[str]) -> str | None:
        """Return the flaw of a sample with an image of a format that is not read, by its files' suffixes; else None."""
        last = {suffix.rpartition(".")[2] for suffix in suffixes}
        flaws = [UNREAD.format(suffix) for suffix in self.unread if suffix in last]
        return flaws[0] if flaws else None

    @property
    def accepted(self) -> str:
        """The members that are read, for messages."""
        images = f"{self.noun}s are read from {', '.join(f'.{suffix}' for suffix in self.suffixes)}"
        return f"{images}{CAPTIONS_ACCEPTED if self.is_caption_required else ''}"

    @classmethod
    def of(cls, request: SampleRequest) -> "SampleKind":
        """Return what a run reads."""
        kind = EMBEDDINGS if request.has_embeddings else IMAGES
        if request.needs_captions:
            return kind
        return replace(kind, kind=f"{kind.kind}-alone", is_caption_required=False)


CAPTIONS_ACCEPTED = (
    ", captions from .txt, or from a text of a JSON object in .json under a name such as caption"
)
IMAGES = SampleKind(
    "images",
    "image",
    ("jpg", "jpeg", "png", "webp", "gif"),
    unread=("tif", "tiff", "bmp", "avif", "heic", "heif", "jp2", "jxl", "psd", "svg", "dng"),
)
EMBEDDINGS = SampleKind("grids", "embedding", ("npy",))


class IndexContents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an index says of its file."""

    samples: int
    skipped: dict[str, int]  # samples that cannot be used, by what they lack
    empty_captions: int  # of usable samples
    repaired_captions: int  # usable samples with a caption that is not UTF-8
    found: CaptionFieldCounts  # of captions
    notes: list[str] = []  # remarks for the user


@dataclass(slots=True)
class IndexBuilder:
    """Collects the samples of a file; those that cannot be used are counted by what they lack."""

    kind: SampleKind
    reader: CaptionFieldReader
    places: Places
    samples: int = 0
    empty_captions: int = 0
    repaired_captions: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    keys_remedy: str = "give the samples different names"  # against equal keys
    _rows: list[tuple[Any, ...]] = field(default_factory=list)
    _batches: list[pa.RecordBatch] = field(default_factory=list)

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([*COLUMNS, *self.places])

    def caption_columns(self, names: Sequence[str], texts: Sequence[str]) -> list[str]:
        """Return the columns that hold the captions; ValueError lists the columns if there are none.

        `texts` are the columns that could hold captions, of which a note tells those that are not read.
        """
        if not self.kind.is_caption_required:
            return []
        self.reader.found.add_names(texts)
        return find_columns(names, self.reader.choice.names)

    def key_column(self, names: Sequence[str]) -> str | None:
        """Return the column that holds the keys, None if no name is known."""
        key = find_column(names, KEY_COLUMNS)
        if key is not None:
            self.keys_remedy = f"rename the column {key} if it holds no names of samples"
        return key

    def add(
        self,
        key: str,
        values: Mapping[str, object] | str,
        place: tuple[object, ...] | str | None,
        size: int = 0,
    ) -> None:
        """Add the next sample.

        `values` are those from which `CaptionChoice.read` takes the captions, or the reason why there are none. `place`
        are the values of the places' columns; None: there is no image; a text: why it cannot be used. `size` is the
        image's in bytes.
        """
        texts, flaw = self._read(values)
        number = self.samples
        self.samples += 1
        if place is None:
            flaw = f"no {self.kind.noun}"
        elif isinstance(place, str):
            flaw = place
        elif not flaw and size > MAX_BYTES:
            flaw = f"{self.kind.noun} larger than {MAX_BYTES // 2**20} MiB"
        if flaw:
            self.skipped[flaw] += 1
            return
        if self.kind.is_caption_required and not any(
            text.strip() for field_texts in texts for text in field_texts
        ):
            self.empty_captions += 1
        valid = tuple(tuple(map(to_valid_text, field_texts)) for field_texts in texts)
        if valid != texts:
            self.repaired_captions += 1
        self._rows.append((to_valid_text(key), number, valid, *(place or ())))
        if len(self._rows) == MAX_BATCH_ROWS:
            self._flush()

    def write(self, path: Path) -> None:
        """Write the index."""
        self._flush()
        contents = IndexContents(
            samples=self.samples,
            skipped=dict(sorted(self.skipped.items())),
            empty_captions=self.empty_captions,
            repaired_captions=self.repaired_captions,
            found=self.reader.found,
            notes=self.notes,
        )
        schema = self.schema.with_metadata({METADATA_KEY: msgspec.json.encode(contents)})
        with atomic_write(path) as temporary, pa.ipc.new_file(temporary, schema) as writer:
            for batch in self._batches:
                writer.write_batch(batch)

    def require_distinct_keys(self) -> None:
        """Raise ValueError if two samples have one key, by which a list of keys would take both."""
        self._flush()
        counts = pc.value_counts(pa.chunked_array([batch["key"] for batch in self._batches]))
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(repeated):
            example = list_names([repeated[0]["values"].as_py()])
            raise ValueError(
                f"{len(repeated):,} keys occur more than once, such as {example}: {self.keys_remedy}"
            )

    def _read(self, values: Mapping[str, object] | str) -> tuple[Texts, str]:
        """Return the texts of a sample by field, and its flaw or ""."""
        if not self.kind.is_caption_required:
            return ((),) * len(self.reader.choice.fields), ""
        return ((), values) if isinstance(values, str) else self.reader.read(values)

    def _flush(self) -> None:
        """Turn the collected rows into a batch of the index."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self.schema)
        arrays = [
            pa.array(values, column.type)
            for values, column in zip(columns, self.schema, strict=True)
        ]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        self._rows = []


@cache
def read_index(path: Path) -> tuple[pa.Table, IndexContents]:
    """Return the usable samples of a file and what it holds in all; its pages are shared by all processes."""
    with prefix_errors(f"{path}: no index of samples, remove it", UNREADABLE):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return table, decode_json(
            (table.schema.metadata or {}).get(METADATA_KEY, b""), IndexContents
        )


@dataclass(eq=False)
class IndexedSamples(Samples):
    """The usable samples of files, in order. The indexes are read when they are first used."""

    paths: tuple[Path, ...]  # of the data
    indexes: tuple[Path, ...]
    kind: SampleKind

    places: ClassVar[Places]  # the arguments of `read_image` after the file
    are_labels_by_place: ClassVar[bool] = (
        False  # whether stored labels count all samples, unusable ones included
    )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.paths, self.indexes, self.kind)

    def read_image(self, file: int, *place: Any) -> bytes:
        """Read an image of a file, given by its number, by its place."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self._ends[-1]

    def key(self, row: int) -> str:
        return str(self.keys[row])

    def texts(self, row: int) -> Texts:
        return tuple(map(tuple, self._columns["texts"][row].as_py()))

    def caption(self, row: int) -> str:
        return next((text for field_texts in self.texts(row) for text in field_texts), "")

    def image(self, row: int) -> bytes:
        place = [self._columns[name][row].as_py() for name, _ in self.places]
        return self.read_image(self._file_of(row), *place)

    @property
    def keys(self) -> pa.ChunkedArray:
        return self._columns["key"]

    def stored_label_row(self, row: int) -> int:
        if not self.are_labels_by_place:
            return row
        return self._first_places[self._file_of(row)] + int(self._columns["place"][row].as_py())

    @property
    def num_stored_label_rows(self) -> int:
        return self._first_places[-1] if self.are_labels_by_place else len(self)

    @cached_property
    def contents(self) -> list[IndexContents]:
        """What the index of each file says of it."""
        return [read_index(path)[1] for path in self.indexes]

    @cached_property
    def skipped(self) -> Counter[str]:
        return sum((Counter(contents.skipped) for contents in self.contents), Counter[str]())

    @cached_property
    def empty_captions(self) -> int:
        return sum(contents.empty_captions for contents in self.contents)

    @property
    def caption_field(self) -> str:
        return list_names([*self.found.known]) or super().caption_field

    @cached_property
    def found(self) -> CaptionFieldCounts:
        """Which fields of captions the samples have."""
        total = CaptionFieldCounts()
        for contents in self.contents:
            total.add(contents.found)
        return total

    def explain_skipped(self) -> str:
        """Describe the unusable samples: how many lack what, what is read, and the notes on their files."""
        return "; ".join([super().explain_skipped(), self.kind.accepted, *self.file_notes])

    def notes(self) -> list[str]:
        """Return the notes of all sources, notes on captions that some samples lack or that are not UTF-8, and more."""
        samples, *others = super().notes()
        captions = [self.found.describe()] if self.found.describe() else []
        for name, count in self.found.samples.items():
            if name and count < self.total:
                others.append(f"{count:,} of {self.total:,} samples have a caption in {name}")
        repaired = sum(contents.repaired_captions for contents in self.contents)
        if repaired:
            reason = "have a caption that is not UTF-8; its other bytes are read as U+FFFD"
            others.append(f"{repaired:,} of {self.total:,} samples {reason}: {UTF8_REMEDY}")
        return [samples, *captions, *others, *self.file_notes]

    @property
    def file_notes(self) -> list[str]:
        """Notes on the files, and how to convert images that are not read."""
        notes = [note for contents in self.contents for note in contents.notes]
        unread = [
            f"*.{suffix}" for suffix in self.kind.unread if UNREAD.format(suffix) in self.skipped
        ]
        if unread:
            command = f"magick mogrify -format png {' '.join(unread)}"
            notes.append(
                f"convert images with: {command}; a table has to name the new files, a tar file to have them"
            )
        return notes

    @cached_property
    def _tables(self) -> list[pa.Table]:
        return [read_index(path)[0] for path in self.indexes]

    @cached_property
    def _columns(self) -> dict[str, pa.ChunkedArray]:
        joined = pa.concat_tables(self._tables)
        return dict(zip(joined.column_names, joined.columns, strict=True))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self._tables)))

    @cached_property
    def _first_places(self) -> list[int]:
        return list(accumulate((contents.samples for contents in self.contents), initial=0))

    def _file_of(self, row: int) -> int:
        return bisect_right(self._ends, row)


class IndexedSource(DataSource):
    """A source whose files are indexed once, each for itself."""

    samples: ClassVar[type[IndexedSamples]]
    reader: ClassVar[type[CaptionFieldReader]] = CaptionFieldReader
    are_keys_distinct: ClassVar[bool] = True  # whether equal keys in a file are an error

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        """Add the samples of a file, in order; ValueError or OSError."""
        raise NotImplementedError

    def indexed(self, data: str) -> list[Path]:
        """Return the files, or folders, that have an index each."""
        return self.files(data)

    def identity(self, path: Path) -> str:
        """Return a text that changes when the index of a file has to be made again."""
        return f"{path.name} {digest_file_excerpts(path)}"

    def title(self, path: Path) -> str:
        """Return the name of a file in messages."""
        return str(path)

    def open(self, data: str, request: SampleRequest) -> IndexedSamples:
        return self.open_files(self.indexed(data), request)

    def open_files(self, paths: Sequence[Path], request: SampleRequest) -> IndexedSamples:
        """Index the files that have no index, and open the samples of all."""
        kind = SampleKind.of(request)
        indexes = [self._index_path(path, request) for path in paths]
        missing = [
            (path, index) for path, index in zip(paths, indexes, strict=True) if not index.is_file()
        ]
        for path, index in show_progress(missing, len(missing), "reading data", "files"):
            self.write_index(path, index, request)
        samples = self.samples(tuple(paths), tuple(indexes), kind)
        if kind.is_caption_required:
            samples.found.require(request.captions)
        return samples

    def write_index(self, path: Path, index: Path, request: SampleRequest) -> None:
        """Read a file and write its index; ValueError names a file that cannot be read."""
        builder = IndexBuilder(
            SampleKind.of(request), self.reader(request.captions), self.samples.places
        )
        with prefix_errors(self.title(path), UNREADABLE):
            self.fill(path, builder)
            if self.are_keys_distinct:
                builder.require_distinct_keys()
        builder.write(index)

    def _index_path(self, path: Path, request: SampleRequest) -> Path:
        """Return where the index of a file lies, whose name says all that it is made of."""
        kind = SampleKind.of(request).kind
        made_of = "\n".join([*request.captions.names, self.name, self.identity(path)])
        digest = sha256(made_of.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return request.cache / f"{kind}{INDEX_FORMAT}-{digest}.arrow"
