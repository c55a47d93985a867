"""Tables of any format: Parquet, csv, tsv, JSON lines and plain text."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.data.parquet_files import ParquetTable, open_parquet
from bench.data.text_tables import TextTable, open_text_table


@contextmanager
def open_table(path: Path) -> Iterator[ParquetTable | TextTable]:
    """Open a table by its suffix; an error of `UNREADABLE` if it cannot be read, also while rows are read."""
    if path.suffix.lower() == ".parquet":
        with open_parquet(path) as file:
            yield ParquetTable(path, file)
    else:
        with open_text_table(path) as table:
            yield table
