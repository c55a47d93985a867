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
from bench.data.captions.batches import KEY_COLUMNS, MAX_BATCH_ROWS, UTF8_REMEDY, find_column, find_columns
from bench.data.captions.choice import CaptionChoice, Texts, to_valid_text
from bench.data.captions.files import UNREADABLE, choice_digest, digest_file_excerpts
from bench.data.captions.key_join import CaptionFieldCounts, CaptionFieldReader
from bench.environment.files import MAX_BYTES, atomic_write, decode_json, prefix_errors
from bench.experiment.config import list_names
from bench.interfaces.data_source import DataSource, SampleRequest, Samples

INDEX_FORMAT = 5  # raise it when the same file gives another index
METADATA_KEY = b"catlip-bench.index"
COLUMNS = (
    ("key", pa.large_string()),
    ("place", pa.int64()),  # among all samples of the file, unusable ones included
    ("texts", pa.list_(pa.list_(pa.large_string()))),  # by field of the choice of captions
)

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
        found = {suffix.rpartition(".")[2] for suffix in suffixes}
        return next((UNREAD.format(suffix) for suffix in self.unread if suffix in found), None)

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


CAPTIONS_ACCEPTED = ", captions from .txt, or from a text of a JSON object in .json under a name such as caption"
UNREAD = "image in .{}, which is not read"
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
    layout: dict[str, int] = {}  # samples and images that are lost, by the arrangement of their members
    suffixes: dict[str, int] = {}  # of members of samples that lack one
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
        if (key := find_column(names, KEY_COLUMNS)) is not None:
            self.keys_remedy = f"rename the column {key} if it holds no names of samples"
        return key

    def add(
        self, key: str, values: Mapping[str, object] | str, place: tuple[object, ...] | str | None, size: int = 0
    ) -> bool:
        """Add the next sample, and return whether it has a caption.

        `values` are those from which `CaptionChoice.read` takes the captions, or the reason why there are none. `place`
        are the values of the places' columns; None: there is no image; a text: why it cannot be used. `size` is the
        image's in bytes.
        """
        texts, flaw = self._read(key, values)
        number, self.samples = self.samples, self.samples + 1
        if place is None:
            self.skipped[f"no {self.kind.noun}"] += 1
        elif isinstance(place, str):
            self.skipped[place] += 1
        elif flaw:
            self.skipped[flaw] += 1
        elif size > MAX_BYTES:
            self.skipped[f"{self.kind.noun} larger than {MAX_BYTES // 2**20} MiB"] += 1
        else:
            self.empty_captions += self.kind.is_caption_required and not any(
                text.strip() for one in texts for text in one
            )
            valid = tuple(tuple(map(to_valid_text, each)) for each in texts)
            self.repaired_captions += valid != texts
            self._rows.append((to_valid_text(key), number, valid, *place))
            if len(self._rows) == MAX_BATCH_ROWS:
                self._flush()
        return not flaw

    def write(self, path: Path, **layout: dict[str, int]) -> None:
        """Write the index."""
        self._flush()
        contents = IndexContents(
            samples=self.samples,
            skipped=dict(sorted(self.skipped.items())),
            empty_captions=self.empty_captions,
            repaired_captions=self.repaired_captions,
            found=self.reader.found,
            notes=self.notes,
            **layout,
        )
        schema = self.schema.with_metadata({METADATA_KEY: msgspec.json.encode(contents)})
        with atomic_write(path) as temporary, pa.ipc.new_file(temporary, schema) as writer:
            for batch in self._batches:
                writer.write_batch(batch)

    def require_distinct_keys(self) -> None:
        """Raise ValueError if two samples have one key, by which a list of keys would take both."""
        self._flush()
        counts = pc.value_counts(pa.chunked_array([batch["key"] for batch in self._batches]))
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            found = f"{len(twice):,} keys occur more than once, such as {list_names([twice[0]['values'].as_py()])}"
            raise ValueError(f"{found}: {self.keys_remedy}")

    def _read(self, key: str, values: Mapping[str, object] | str) -> tuple[Texts, str]:
        if not self.kind.is_caption_required:
            return ((),) * len(self.reader.choice.fields), ""
        if isinstance(values, str):
            return (), values
        return self.reader.read(key, values)

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self.schema)
        arrays = [pa.array(column, one.type) for column, one in zip(columns, self.schema, strict=True)]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        self._rows = []


def index_path(cache_folder: Path, kind: SampleKind, captions: CaptionChoice, *identity: object) -> Path:
    """Return where an index lies: `identity` says what it is made of."""
    made_of = "\n".join(map(str, (choice_digest(captions), *identity)))
    digest = sha256(made_of.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return cache_folder / f"{kind.kind}{INDEX_FORMAT}-{digest}.arrow"


@cache
def read_index(path: Path) -> tuple[pa.Table, IndexContents]:
    """Return the usable samples of a file and what it holds in all; its pages are shared by all processes."""
    with prefix_errors(f"{path}: no index of samples, remove it", UNREADABLE):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return table, decode_json((table.schema.metadata or {}).get(METADATA_KEY, b""), IndexContents)


@dataclass(eq=False)
class IndexedSamples(Samples):
    """The usable samples of files, in order. The indexes are read when they are first used."""

    paths: tuple[Path, ...]  # of the data
    indexes: tuple[Path, ...]
    kind: SampleKind

    places: ClassVar[Places]  # the arguments of `read_image`

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.paths, self.indexes, self.kind)

    def read_image(self, path: Path, *place: Any) -> bytes:
        """Read an image of a file by its place."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self._ends[-1]

    def key(self, row: int) -> str:
        return str(self._columns["key"][row])

    def texts(self, row: int) -> Texts:
        return tuple(map(tuple, self._columns["texts"][row].as_py()))

    def caption(self, row: int) -> str:
        return next((text for each in self.texts(row) for text in each), "")

    def image(self, row: int) -> bytes:
        place = (self._columns[name][row].as_py() for name, _ in self.places)
        return self.read_image(self.paths[self._file_of(row)], *place)

    @property
    def keys(self) -> pa.ChunkedArray:
        return self._columns["key"]

    @cached_property
    def contents(self) -> list[IndexContents]:
        """What the index of each file says of it."""
        return [read_index(path)[1] for path in self.indexes]

    @cached_property
    def skipped(self) -> Counter[str]:
        return self._sum("skipped")

    @cached_property
    def empty_captions(self) -> int:
        return sum(each.empty_captions for each in self.contents)

    @property
    def caption_field(self) -> str:
        return list_names([*self.found.known]) or super().caption_field

    @cached_property
    def found(self) -> CaptionFieldCounts:
        """Which fields of captions the samples have."""
        found = CaptionFieldCounts()
        for each in self.contents:
            found.add(each.found)
        return found

    def explain_skipped(self) -> str:
        """Describe the unusable samples: how many lack what, and the notes on their files."""
        return "; ".join([super().explain_skipped(), *self._file_notes])

    def notes(self) -> list[str]:
        """Return those of all sources, on captions that some samples lack or that are not UTF-8, and on the files."""
        found = {name: there for name, there in self.found.samples.items() if name and there < self.total}
        fields = [f"{there:,} of {self.total:,} samples have a caption in {name}" for name, there in found.items()]
        if repaired := sum(each.repaired_captions for each in self.contents):
            reason = "have a caption that is not UTF-8; its other bytes are read as U+FFFD"
            fields.append(f"{repaired:,} of {self.total:,} samples {reason}: {UTF8_REMEDY}")
        samples, *others = super().notes()
        return [samples, *filter(None, [self.found.describe()]), *others, *fields, *self._file_notes]

    @property
    def _file_notes(self) -> list[str]:
        notes = [note for each in self.contents for note in each.notes]
        if unread := [f"*.{suffix}" for suffix in self.kind.unread if UNREAD.format(suffix) in self.skipped]:
            command = f"magick mogrify -format png {' '.join(unread)}"
            notes.append(f"convert images with: {command}; a table has to name the new files, a tar file to have them")
        return notes

    def _sum(self, counts: str) -> Counter[str]:
        return sum((Counter(getattr(each, counts)) for each in self.contents), Counter[str]())

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

    def _file_of(self, row: int) -> int:
        return bisect_right(self._ends, row)


class IndexedSource(DataSource):
    """A source whose files are indexed once, each for itself."""

    samples: ClassVar[type[IndexedSamples]]
    reader: ClassVar[type[CaptionFieldReader]] = CaptionFieldReader

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        """Add the samples of a file, in order; ValueError or OSError."""
        raise NotImplementedError

    def indexed(self, data: str) -> list[Path]:
        """Return the files, or folders, that have an index each."""
        return self.files(data)

    def identity(self, path: Path) -> str:
        """Return a text that changes when the index of a file has to be made again."""
        return f"{path.name} {digest_file_excerpts(path)}"

    def open(self, data: str, request: SampleRequest) -> IndexedSamples:
        kind, paths = SampleKind.of(request), self.indexed(data)
        indexes = [index_path(request.cache, kind, request.captions, self.name, self.identity(path)) for path in paths]
        missing = [(path, index) for path, index in zip(paths, indexes, strict=True) if not index.is_file()]
        for path, index in show_progress(missing, len(missing), "reading data", "files"):
            builder = IndexBuilder(kind, self.reader(request.captions), self.samples.places)
            with prefix_errors(path, UNREADABLE):
                self.fill(path, builder)
                builder.require_distinct_keys()
            builder.write(index)
        samples = self.samples(tuple(paths), tuple(indexes), kind)
        if kind.is_caption_required:
            samples.found.require(request.captions)
        return samples
