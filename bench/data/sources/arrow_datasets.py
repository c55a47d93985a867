"""Data sets that the library `datasets` saved by `save_to_disk`: Arrow files, which are mapped into memory."""

from functools import cache
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from bench.data.captions.batches import iterate_values
from bench.data.sample_index import IndexBuilder, IndexedSamples, IndexedSource
from bench.data.sources.columns import find_image_bytes, text_columns
from bench.environment.files import decode_json, prefix_errors, read_limited
from bench.experiment.config import list_names

STATE, SPLITS = "state.json", "dataset_dict.json"
FILE_MAGIC = b"ARROW1"


class State(msgspec.Struct, frozen=True):
    """What `datasets` says of a saved data set."""

    data_files: list[dict[str, str]] = msgspec.field(name="_data_files")


class ArrowSamples(IndexedSamples):
    """The usable rows of Arrow files."""

    places = (("row", pa.int64()),)

    def read_image(self, path: Path, row: int) -> bytes:
        return bytes(_images(path)[row].as_py())


class ArrowDatasets(IndexedSource):
    """Rows of Arrow files."""

    name = "saved datasets"
    accepted = "a folder that `datasets` saved by save_to_disk, with a column of images and one of captions"
    samples = ArrowSamples

    def recognises(self, data: str) -> bool:
        return any((Path(data) / name).is_file() for name in (STATE, SPLITS))

    def files(self, data: str) -> list[Path]:
        folder = Path(data).absolute()
        if not (folder / STATE).is_file():
            splits = sorted(path.parent.name for path in folder.glob(f"*/{STATE}"))
            raise ValueError(f"{data} has the splits {list_names(splits)}: name the folder of one of them")
        with prefix_errors(folder / STATE):
            state = decode_json(read_limited(folder / STATE), State)
        return [folder / Path(one["filename"]).name for one in state.data_files]

    def fill(self, path: Path, builder: IndexBuilder) -> None:
        table = _map(path, path.stat().st_mtime_ns)
        names = table.column_names
        columns, key = builder.caption_columns(names, text_columns(table.schema)), builder.key_column(names)
        sizes, number = pc.binary_length(_images(path)).to_pylist(), 0
        for batch in table.select([*dict.fromkeys([*columns, *filter(None, (key,))])]).to_batches():
            for row in iterate_values(batch) if batch.num_columns else ({} for _ in range(batch.num_rows)):
                name = f"{path.stem}/{number}" if key is None else str(row[key])
                place = None if sizes[number] is None else (number,)
                builder.add(name, {column: row[column] for column in columns}, place, sizes[number] or 0)
                number += 1


def _images(path: Path) -> pa.ChunkedArray:
    return _map_images(path, path.stat().st_mtime_ns)


@cache
def _map(path: Path, _modified: int) -> pa.Table:
    source = pa.memory_map(str(path))
    is_file = source.read(len(FILE_MAGIC)) == FILE_MAGIC
    source.seek(0)
    return (pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)).read_all()


@cache
def _map_images(path: Path, modified: int) -> pa.ChunkedArray:
    table = _map(path, modified)
    leaf = find_image_bytes(table.schema)
    column = table[leaf[0]]
    return pc.struct_field(column, leaf[1]) if len(leaf) > 1 else column
