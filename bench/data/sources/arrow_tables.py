"""Tables with the bytes of images: Arrow files that `datasets` saved, and Parquet files, which are converted once.

Arrow files are mapped into memory, so that an image is read without the others. A Parquet file has to be decompressed
by row groups of many images, and is therefore written again as an Arrow file in the cache.
"""

import re
import shutil
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, repeat
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.console.console import log
from bench.console.progress import iterate_with_progress_bar
from bench.data.columns import (
    KEY_COLUMNS,
    find_first_known_column,
    find_image_byte_column,
    image_byte_columns,
    iterate_rows_as_dicts,
    require_distinct_columns,
    text_columns,
)
from bench.data.parquet_files import (
    MAX_DECODED_BYTES,
    MAX_EXPANSION,
    iterate_memory_bounded_batches,
    join_small_batches,
    open_parquet,
)
from bench.data.paths import UNREADABLE, digest_file_excerpts, iterate_files
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexingSource
from bench.data.tables import FIRST_ROWS
from bench.environment.files import (
    atomic_write,
    decode_json,
    hold_file_lock,
    make_folders_unless_in_root,
    prefix_errors,
    read_bytes_unless_larger,
)
from bench.tables.formats import GIB

STATE = "state.json"
FILE_MAGIC = b"ARROW1"
CONVERTED_FORMAT = 1  # raise it when the same Parquet file gives another Arrow file
CONVERTED_ROWS = 64  # of a Parquet file in memory at once: each may be an image of some MiB
SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}")  # names of the hub's files


class SavedArrowFile(msgspec.Struct, frozen=True):
    """An Arrow file of a saved data set."""

    filename: str


class SavedDatasetState(msgspec.Struct, frozen=True):
    """The state.json of a data set that `datasets` saved."""

    data_files: list[SavedArrowFile] = msgspec.field(name="_data_files")


class ArrowSamples(IndexedSamples):
    """The usable rows of Arrow files."""

    place_columns = (("row", pa.int64()),)

    def read_image(self, path: Path, row: int) -> bytes:
        images = _memory_map_image_column(path, self.index.name, self.image_column)
        return bytes(images[row].as_py())


class SavedHuggingFaceDatasets(IndexingSource):
    """A folder that `datasets` saved: rows of Arrow files with the bytes of images."""

    name = "saved datasets"
    samples = ArrowSamples

    def recognises(self, data: str) -> bool:
        return (Path(data) / STATE).is_file()

    def files(self, data: str) -> list[Path]:
        folder = Path(data).absolute()
        with prefix_errors(folder / STATE):
            state = decode_json(read_bytes_unless_larger(folder / STATE), SavedDatasetState)
            return [folder / Path(file.filename).name for file in state.data_files]

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        add_arrow_rows(path, path.stem, builder)


class ParquetImagesViaArrow(IndexingSource):
    """Rows of Parquet files with the bytes of images; the files are converted once to Arrow files."""

    name = "Parquet files of images"
    can_count_labels_from_files = True
    samples = ArrowSamples

    def recognises(self, data: str) -> bool:
        first = next(iterate_files(data, (".parquet",)), None)
        if first is None:
            return False
        try:
            schema = pq.read_schema(first)
        except UNREADABLE:
            return False
        return bool(image_byte_columns(schema))

    def files(self, data: str) -> list[Path]:
        paths = sorted(iterate_files(data, (".parquet",)), key=Path.as_posix)
        folders = dict[str, Path]()
        for path in paths:
            match = SPLIT.fullmatch(path.stem)
            if match:
                folders[match[1]] = path.parent
        if len(folders) > 1:
            split = min(folders)
            glob = f"'{folders[split]}/{split}-*.parquet'"
            raise ValueError(f"{data} has several splits: name the files of one, as {glob}")
        return paths

    def prepare_files_to_index(self, data: str, cache_folder: Path) -> list[Path]:
        return convert_parquet_to_arrow_once(self.files(data), cache_folder)

    def add_samples(self, path: Path, builder: IndexBuilder) -> None:
        name, _, _ = path.name.partition(".parquet-")
        add_arrow_rows(path, name, builder)


def add_arrow_rows(path: Path, key_prefix: str, builder: IndexBuilder) -> None:
    """Add the rows of an Arrow file to an index; without a column of keys the keys are the prefix and the row."""
    table = _memory_map_arrow_table(path)
    images = _find_image_column(table, builder.image_column)
    sizes = pc.binary_length(images).to_pylist()
    texts = text_columns(table.schema)
    first_rows = iterate_rows_as_dicts(table.select(texts).slice(0, FIRST_ROWS))
    columns = builder.find_caption_columns(table.column_names, texts, first_rows)
    key = find_first_known_column(table.column_names, KEY_COLUMNS)
    names = list(columns)
    if key is not None and key not in columns:
        names.append(key)
    rows: Iterable[dict[str, object]] = repeat({})
    if names:
        batches = table.select(names).to_batches()
        rows = chain.from_iterable(iterate_rows_as_dicts(batch) for batch in batches)
    for number, (size, row) in enumerate(zip(sizes, rows, strict=False)):
        row_key = f"{key_prefix}/{number}" if key is None else str(row[key])
        image_place = None if size is None else (number,)
        builder.add_sample(row_key, row, image_place, size or 0)


def _memory_map_arrow_table(path: Path) -> pa.Table:
    """Map an Arrow file or stream into memory and return its rows.

    ValueError for damaged offsets, which would end the process, and for two columns of one name.
    """
    source = pa.memory_map(str(path))
    is_file = source.read(len(FILE_MAGIC)) == FILE_MAGIC
    source.seek(0)
    reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
    table = reader.read_all()
    table.validate(full=True)
    require_distinct_columns(table.column_names)
    return table


@cache
def _memory_map_image_column(
    path: Path, _index_name: str, image_column: str | None
) -> pa.ChunkedArray:
    """Return the column of encoded images of an Arrow file, mapped into memory; changed data have another index."""
    return _find_image_column(_memory_map_arrow_table(path), image_column)


def _find_image_column(table: pa.Table, image_column: str | None) -> pa.ChunkedArray:
    """Return the column of encoded images of a table."""
    images = table[find_image_byte_column(table.schema, image_column)]
    if pa.types.is_struct(images.type):
        return pc.struct_field(images, "bytes")
    return images


def convert_parquet_to_arrow_once(paths: Sequence[Path], cache_folder: Path) -> list[Path]:
    """Write Parquet files as Arrow files in the cache, unless they are there, and return these.

    Their size is logged before. ValueError names a damaged file, or says that the disk has too little space.
    """
    targets = {}
    for path in paths:
        name = f"{path.name}-{digest_file_excerpts(path)}{CONVERTED_FORMAT}.arrow"
        targets[path] = cache_folder / name
    missing = [path for path in paths if not targets[path].is_file()]
    if not missing:
        return list(targets.values())
    make_folders_unless_in_root(cache_folder)
    total = sum(map(_count_uncompressed_parquet_bytes, missing))
    free = shutil.disk_usage(cache_folder).free
    space = f"{total / GIB:,.1f} GiB in {cache_folder}, where {free / GIB:,.1f} GiB are free"
    if total > free:
        raise ValueError(f"Parquet files of images are converted once, which takes {space}")
    log(f"converting {len(missing)} Parquet files of images to Arrow, once: {space}")
    for path in iterate_with_progress_bar(missing, len(missing), "converting Parquet", "files"):
        target = targets[path]
        lock_path = cache_folder / f"{target.name}.lock"
        with lock_path.open("ab") as lock, hold_file_lock(lock, wait=True):
            if not target.is_file():  # another process of the machine may have written it
                with prefix_errors(path, UNREADABLE):
                    _convert_parquet_file(path, target)
    return list(targets.values())


def _count_uncompressed_parquet_bytes(path: Path) -> int:
    """Return the bytes of a Parquet file's values before compression."""
    with prefix_errors(path, UNREADABLE), open_parquet(path) as file:
        groups = range(file.num_row_groups)
        return sum(file.metadata.row_group(number).total_byte_size for number in groups)


def _convert_parquet_file(path: Path, target: Path) -> None:
    """Write the rows of a Parquet file as an Arrow file; ValueError for a damaged file, or one that expands much."""
    limit = MAX_DECODED_BYTES + MAX_EXPANSION * path.stat().st_size
    num_bytes = 0
    with open_parquet(path) as file, atomic_write(target) as temporary:
        names = file.schema_arrow.names
        tables = join_small_batches(
            iterate_memory_bounded_batches(path, file, names, CONVERTED_ROWS)
        )
        first = next(tables, file.schema_arrow.empty_table())
        with pa.ipc.new_file(temporary, first.schema) as writer:
            for table in chain([first], tables):
                writer.write_table(table.combine_chunks())
                num_bytes += table.nbytes
                if num_bytes > limit:
                    raise ValueError(
                        f"its values have over {num_bytes:,} bytes, as no real images do"
                    )
