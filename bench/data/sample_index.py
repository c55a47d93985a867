"""The index of samples in the cache: an Arrow file that every process maps into memory, and a JSON file of counts.

All sources of files share it. It holds the usable samples with their texts and the places of their images, and counts
the others by what they lack.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from bench.console.progress import iterate_with_progress_bar
from bench.data.captions.choice import TextsByField
from bench.data.captions.reader import (
    NO_CAPTION,
    CaptionFieldCounts,
    CaptionReader,
)
from bench.data.columns import EMBEDDING_SUFFIXES, IMAGE_SUFFIXES, SampleValues
from bench.data.parquet_files import MAX_BATCH_BYTES, MAX_BATCH_ROWS
from bench.data.paths import UNREADABLE, digest_file_excerpts
from bench.environment.files import MAX_BYTES, atomic_write, decode_json, prefix_errors
from bench.interfaces.data_source import DataSource, SampleFieldsRequest, Samples

INDEX_FORMAT = 11  # raise it when the same file gives another index
COLUMNS = (
    ("key", pa.large_string()),
    ("file", pa.int64()),  # number of the file of the data
    ("texts", pa.list_(pa.list_(pa.large_string()))),  # by field of the choice of captions
)
NO_IMAGE = "no image"
TOO_LARGE = f"image larger than {MAX_BYTES // 2**20} MiB"

ImagePlaceColumns = tuple[tuple[str, pa.DataType], ...]  # names and types


def image_suffixes(request: SampleFieldsRequest) -> tuple[str, ...]:
    """Return the suffixes of the files that are read as images, or as embeddings in their place."""
    if request.image_column is not None:
        return (request.image_column.lower(),)
    return EMBEDDING_SUFFIXES if request.has_embeddings else IMAGE_SUFFIXES


class IndexSummary(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Counts of usable and unusable samples, stored beside an index."""

    fields: CaptionFieldCounts  # of captions
    skipped: dict[str, int] = {}  # samples that cannot be used, by what they lack


class IndexBuilder:
    """Writes the usable samples of files into an index, and counts the others by what they lack."""

    def __init__(self, request: SampleFieldsRequest, schema: pa.Schema, writer: Any) -> None:
        self.image_column = request.image_column
        self.suffixes = image_suffixes(request)
        self.needs_captions = request.needs_captions
        self.summary = IndexSummary(fields=CaptionFieldCounts())
        self.file_number = 0  # of the file that is read
        self.reader = CaptionReader(request.captions, self.summary.fields)
        self.suffixes_to_read = self.reader.suffixes_to_read
        self._schema = schema
        self._writer = writer  # of an Arrow file
        self._no_texts: TextsByField = ((),) * len(request.captions.fields)
        self._rows: list[tuple[Any, ...]] = []
        self._num_characters = 0  # of the texts of these rows

    def find_caption_columns(
        self,
        column_names: Sequence[str],
        text_columns: Sequence[str],
        first_rows: Iterable[SampleValues],
    ) -> list[str]:
        """Return the columns of a table that hold the captions, as `CaptionReader.find_needed_columns`."""
        if not self.needs_captions:
            return []
        return self.reader.find_needed_columns(column_names, text_columns, first_rows)

    def add_sample(
        self,
        key: str,
        values: SampleValues,
        image_place: tuple[Any, ...] | None,
        image_bytes: int = 0,
    ) -> None:
        """Add the next sample, or count what it lacks; `CaptionReader.read` takes its captions from the values.

        `image_place` has the values of `IndexedSamples.place_columns`; None: the sample has no image.
        """
        texts = self.reader.read(values) if self.needs_captions else self._no_texts
        flaw = ""
        if image_place is None:
            flaw = NO_IMAGE
        elif self.needs_captions and not any(texts):
            flaw = NO_CAPTION
        elif image_bytes > MAX_BYTES:
            flaw = TOO_LARGE
        if flaw:
            self.summary.skipped[flaw] = self.summary.skipped.get(flaw, 0) + 1
            return
        valid_key = key.encode("utf-8", "replace").decode()
        self._rows.append((valid_key, self.file_number, texts, *(image_place or ())))
        self._num_characters += sum(map(len, chain.from_iterable(texts)))
        if len(self._rows) == MAX_BATCH_ROWS or self._num_characters > MAX_BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the collected rows."""
        arrays = []
        for index, kind in enumerate(self._schema.types):
            values = [row[index] for row in self._rows]
            arrays.append(pa.array(values, kind))
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._rows = []
        self._num_characters = 0


@dataclass(eq=False)
class IndexedSamples(Samples):
    """The usable samples of files, in order. The index is read when it is first used."""

    paths: tuple[Path, ...]  # of the data
    index: Path
    image_column: str | None = None

    # Columns that say where in its file an image is: the arguments of `read_image` after the path.
    place_columns: ClassVar[ImagePlaceColumns]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.paths, self.index, self.image_column)

    def read_image(self, path: Path, *place: Any) -> bytes:
        """Read an encoded image of a file; `place` has the values of `place_columns`."""
        raise NotImplementedError

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def key(self, row: int) -> str:
        return str(self.keys[row])

    def captions_by_field(self, row: int) -> TextsByField:
        return tuple(map(tuple, self._value("texts", row)))

    def caption(self, row: int) -> str:
        texts = chain.from_iterable(self.captions_by_field(row))
        return next(texts, "")

    def image(self, row: int) -> bytes:
        file_number = self._value("file", row)
        place = [self._value(name, row) for name, _ in self.place_columns]
        return self.read_image(self.paths[file_number], *place)

    def _value(self, column: str, row: int) -> Any:
        return self.table[column][row].as_py()

    @property
    def keys(self) -> pa.ChunkedArray:
        return self.table["key"]

    @cached_property
    def table(self) -> pa.Table:
        """The usable samples; its pages are shared by all processes."""
        with prefix_errors(f"{self.index}: no index of samples, remove it", UNREADABLE):
            return pa.ipc.open_file(pa.memory_map(str(self.index))).read_all()

    @cached_property
    def summary(self) -> IndexSummary:
        """Counts of usable and unusable samples, read from the index."""
        return decode_json(self.index.with_suffix(".json").read_bytes(), IndexSummary)

    @property
    def skipped(self) -> dict[str, int]:
        return self.summary.skipped

    def notes(self) -> list[str]:
        """Return the notes of all sources, and which captions are read."""
        samples, *others = super().notes()
        if self.summary.fields.samples:
            others.insert(0, self.summary.fields.describe_read_and_unread_fields())
        return [samples, *others]


class IndexingSource(DataSource):
    """A source that opens samples by an index of its files, which it writes if absent."""

    samples: ClassVar[type[IndexedSamples]]
    options = ("--caption-fields", "--image-column")

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        """Add the samples of a file to an index, in order; ValueError or OSError."""
        raise NotImplementedError

    def prepare_files_to_index(self, data: str, _cache_folder: Path) -> list[Path]:
        """Return the files or folders from which an index is made, after any conversion of the data's files."""
        return self.files(data)

    def fingerprint(self, path: Path, _request: SampleFieldsRequest) -> str:
        """Return a text that changes when the index of a file has to be made again."""
        return f"{path.name} {digest_file_excerpts(path)}"

    def open(self, data: str, request: SampleFieldsRequest) -> IndexedSamples:
        """Index the files unless they are indexed, and open their samples; ValueError names a damaged file."""
        paths = self.prepare_files_to_index(data, request.cache)
        contents = f"{image_suffixes(request)} {request.needs_captions}"
        fingerprints = [self.fingerprint(path, request) for path in paths]
        lines = [*request.captions.field_names, contents, self.name, *fingerprints]
        made_of = "\n".join(lines).encode("utf-8", "surrogateescape")
        digest = sha256(made_of).hexdigest()[:24]
        index = request.cache / f"samples{INDEX_FORMAT}-{digest}.arrow"
        if not index.with_suffix(".json").is_file():
            self.write_index(paths, index, request)
        samples = self.samples(tuple(paths), index, request.image_column)
        if request.needs_captions:
            samples.summary.fields.require_fields(request.captions)
        return samples

    def write_index(self, paths: Sequence[Path], index: Path, request: SampleFieldsRequest) -> None:
        """Read files and write their index; ValueError names a file that cannot be read."""
        schema = pa.schema([*COLUMNS, *self.samples.place_columns])
        with atomic_write(index) as temporary, pa.ipc.new_file(temporary, schema) as writer:
            builder = IndexBuilder(request, schema, writer)
            paths_with_bar = iterate_with_progress_bar(paths, len(paths), "reading data", "files")
            for number, path in enumerate(paths_with_bar):
                builder.file_number = number
                with prefix_errors(path, UNREADABLE):
                    self.add_samples(path, builder)
            builder.flush()
        with atomic_write(index.with_suffix(".json")) as temporary:
            temporary.write_bytes(msgspec.json.encode(builder.summary))
