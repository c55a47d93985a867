"""Tables of any format: Parquet, csv, tsv, JSON, JSON lines and plain text."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from bench.data.columns import SampleValues
from bench.data.json_tables import open_json_table
from bench.data.parquet_files import SequentialParquetReader, open_parquet
from bench.data.text_tables import TextTable, open_text_table

FIRST_ROWS = 64  # that tell which columns hold images and captions


@contextmanager
def open_table(path: Path) -> Iterator[SequentialParquetReader | TextTable]:
    """Open a table by its suffix; an error of `UNREADABLE` if it cannot be read, also while rows are read."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        yield open_json_table(path)
    elif suffix == ".parquet":
        with open_parquet(path) as file:
            yield SequentialParquetReader(path, file)
    else:
        with open_text_table(path) as table:
            yield table


def read_first_rows(path: Path, columns: list[str]) -> Iterator[SampleValues]:
    """Yield the first rows of a table with the given columns, each empty if it cannot be read."""
    with open_table(path) as table:
        yield from islice(table.read_rows(columns), FIRST_ROWS)
