"""Tables with the bytes of images: Arrow files that `datasets` saved, and Parquet files, which are converted once.

Arrow files are mapped into memory, so that an image is read without the others. A Parquet file has to be decompressed
by row groups of many images, and is therefore written again as an Arrow file in the cache.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, repeat
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.console.console import log
from bench.console.progress import make_bar
from bench.data.captions.batches import iterate_values
from bench.data.captions.files import UNREADABLE
from bench.data.captions.parquet import (
    MAX_DECODED_BYTES,
    MAX_EXPANSION,
    iterate_decoded_batches,
    join_batches,
    open_parquet,
)
from bench.data.paths import digest_file_excerpts, iterate_files
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexedSource
from bench.data.sources.columns import find_image_bytes, image_byte_columns, text_columns
from bench.environment.files import (
    atomic_write,
    decode_json,
    hold_lock,
    make_folders,
    prefix_errors,
    read_limited,
)
from bench.experiment.config import list_names
from bench.interfaces.data_source import SampleRequest
from bench.tables.formats import GIB

STATE, SPLITS = "state.json", "dataset_dict.json"
FILE_MAGIC = b"ARROW1"
CONVERTED_FORMAT = 1  # raise it when the same Parquet file gives another Arrow file
CONVERTED_ROWS = 64  # of a Parquet file in memory at once: each may be an image of some MiB
BINARY_OF = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}
SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}")  # names of the hub's files


class State(msgspec.Struct, frozen=True):
    """What `datasets` says of a saved data set."""

    data_files: list[dict[str, str]] = msgspec.field(name="_data_files")


class ArrowSamples(IndexedSamples):
    """The usable rows of Arrow files."""

    places = (("row", pa.int64()),)

    def read_image(self, file: int, row: int) -> bytes:
        path = self.paths[file]
        return bytes(_map_images(path, path.stat().st_mtime_ns)[row].as_py())


class ParquetSamples(ArrowSamples):
    """The usable rows of Parquet files, read from their Arrow files."""

    are_labels_by_place = True


class ArrowDatasets(IndexedSource):
    """Rows of Arrow files."""

    name = "saved datasets"
    accepted = "a folder of `datasets`' save_to_disk"
    samples = ArrowSamples

    def recognises(self, data: str) -> bool:
        return any((Path(data) / name).is_file() for name in (STATE, SPLITS))

    def files(self, data: str) -> list[Path]:
        folder = Path(data).absolute()
        if not (folder / STATE).is_file():
            splits = sorted(path.parent.name for path in folder.glob(f"*/{STATE}"))
            raise ValueError(
                f"{data} has the splits {list_names(splits)}: name the folder of one of them"
            )
        with prefix_errors(folder / STATE):
            state = decode_json(read_limited(folder / STATE), State)
            return [folder / Path(file["filename"]).name for file in state.data_files]

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        fill_from_arrow(path, path.stem, builder)


class ParquetImages(IndexedSource):
    """Rows of Parquet files."""

    name = "Parquet files of images"
    accepted = "Parquet files with a column of images, or their folder"
    has_caption_files = True
    samples = ParquetSamples

    def recognises(self, data: str) -> bool:
        path = next(iterate_files(data, (".parquet",)), None)
        return path is not None and has_image_bytes(path)

    def files(self, data: str) -> list[Path]:
        paths = sorted(iterate_files(data, (".parquet",)), key=Path.as_posix)
        splits = {match[1]: path.parent for path in paths if (match := SPLIT.fullmatch(path.stem))}
        if len(splits) > 1:
            train = [split for split in splits if "train" in split]
            split = train[0] if train else min(splits)
            glob = splits[split] / f"{split}-*.parquet"
            raise ValueError(
                f"{data} has the splits {list_names(sorted(splits))}: name one of them, as {str(glob)!r}"
            )
        return paths

    def identity(self, path: Path) -> str:
        return path.name  # of an Arrow file, whose name has the digest of its Parquet file

    def title(self, path: Path) -> str:
        return f"{_parquet_stem(path)}.parquet"

    def open(self, data: str, request: SampleRequest) -> IndexedSamples:
        return self.open_files(convert_to_arrow(self.files(data), request.cache), request)

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        fill_from_arrow(path, _parquet_stem(path), builder)


def fill_from_arrow(path: Path, name: str, builder: IndexBuilder) -> None:
    """Add the rows of an Arrow file; without a column of keys the keys are the name and the row."""
    modified = path.stat().st_mtime_ns
    table = _map(path, modified)
    sizes = pc.binary_length(_map_images(path, modified)).to_pylist()
    columns = builder.caption_columns(table.column_names, text_columns(table.schema))
    key = builder.key_column(table.column_names)
    names = columns if key is None or key in columns else [*columns, key]
    rows = _iterate_rows(table.select(names)) if names else repeat(dict[str, object]())
    for number, (size, row) in enumerate(zip(sizes, rows, strict=False)):
        row_key = f"{name}/{number}" if key is None else str(row[key])
        values = {column: row[column] for column in columns}
        builder.add(row_key, values, None if size is None else (number,), size or 0)


def _iterate_rows(table: pa.Table) -> Iterator[dict[str, object]]:
    for column in table.columns:
        _require_intact(column)
    for batch in table.to_batches():
        yield from iterate_values(batch)


@cache
def _map(path: Path, _modified: int) -> pa.Table:
    """Return the rows of an Arrow file or stream, which is mapped into memory."""
    source = pa.memory_map(str(path))
    is_file = source.read(len(FILE_MAGIC)) == FILE_MAGIC
    source.seek(0)
    return (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)).read_all()


@cache
def _map_images(path: Path, modified: int) -> pa.ChunkedArray:
    """Return the images of an Arrow file, whose offsets are checked once; ValueError for damaged ones."""
    table = _map(path, modified)
    name, *field = find_image_bytes(table.schema)
    column = table[name]
    column.validate()
    images = pc.struct_field(column, field[0]) if field else column
    _require_intact(images)
    return images


def _require_intact(column: pa.ChunkedArray) -> None:
    """Raise ValueError for offsets that lead outside the column, which would end the process; texts may be no UTF-8."""
    for chunk in column.chunks:
        chunk.validate()
        if chunk.type in BINARY_OF:
            chunk = chunk.view(BINARY_OF[chunk.type])  # noqa: PLW2901
        chunk.validate(full=True)


def has_image_bytes(path: Path) -> bool:
    """Return whether a file is a Parquet file with a column of bytes that are no captions."""
    try:
        return bool(image_byte_columns(pq.read_schema(path)))
    except UNREADABLE:
        return False


def convert_to_arrow(paths: Sequence[Path], cache_folder: Path) -> list[Path]:
    """Write Parquet files as Arrow files in the cache, unless they are there; say before how large they will be.

    ValueError names a damaged file, or says that the disk has too little space.
    """
    converted = [_converted_path(path, cache_folder) for path in paths]
    missing = [
        (path, target)
        for path, target in zip(paths, converted, strict=True)
        if not target.is_file()
    ]
    if not missing:
        return converted
    make_folders(cache_folder)
    sizes = [_decoded_bytes(path) for path, _ in missing]
    free = shutil.disk_usage(cache_folder).free
    described = (
        f"{sum(sizes) / GIB:,.1f} GiB in {cache_folder}, where {free / GIB:,.1f} GiB are free"
    )
    if sum(sizes) > free:
        raise ValueError(
            f"Parquet files of images are converted once, which takes {described}: make room there"
        )
    log(f"converting {len(missing)} Parquet files of images to Arrow, once: {described}")
    with make_bar("converting Parquet", sum(sizes), "B", is_scaled=True) as bar:
        for (path, target), size in zip(missing, sizes, strict=True):
            with (
                (cache_folder / f"{target.name}.lock").open("ab") as lock,
                hold_lock(lock, wait=True),
            ):
                if not target.is_file():  # another process of the machine may have written it
                    with prefix_errors(path, UNREADABLE):
                        _convert(path, target)
            bar.update(size)
    return converted


def _converted_path(path: Path, cache_folder: Path) -> Path:
    return cache_folder / f"{path.stem}-{digest_file_excerpts(path)}{CONVERTED_FORMAT}.arrow"


def _parquet_stem(converted: Path) -> str:
    return converted.stem.rpartition("-")[0]


def _decoded_bytes(path: Path) -> int:
    """Return the bytes of a file's values before compression; ValueError for a file without a column of images."""
    with prefix_errors(path, UNREADABLE), open_parquet(path) as file:
        find_image_bytes(file.schema_arrow)
        return sum(
            file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)
        )


def _convert(path: Path, target: Path) -> None:
    """Write the rows of a Parquet file as an Arrow file; ValueError for a damaged file, or one that expands much."""
    limit = MAX_DECODED_BYTES + MAX_EXPANSION * path.stat().st_size
    num_rows = num_bytes = 0
    with open_parquet(path) as file, atomic_write(target) as temporary:
        names = file.schema_arrow.names
        if len({*names}) < len(names):
            raise ValueError("several columns have one name: rename all but one")
        tables = join_batches(iterate_decoded_batches(path, file, names, CONVERTED_ROWS))
        first = next(tables, file.schema_arrow.empty_table())
        with pa.ipc.new_file(temporary, first.schema) as writer:
            for table in chain([first], tables):
                writer.write_table(table.combine_chunks())
                num_rows += len(table)
                num_bytes += table.nbytes
                if num_bytes > limit:
                    raise ValueError(
                        f"its values have over {num_bytes:,} bytes, as no real images do"
                    )
        if num_rows != file.metadata.num_rows:
            raise ValueError(
                f"the file is truncated: {num_rows} of its {file.metadata.num_rows} rows can be read"
            )
