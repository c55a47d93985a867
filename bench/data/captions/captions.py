"""Captions of a file of any format, as batches in the file's order. Memory does not grow with the file's size."""

import csv
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.config import choose
from bench.data.captions.batches import Batch
from bench.data.captions.line_files import csv_rows, json_rows, read_rows, text_rows
from bench.data.captions.parquet_file import read_parquet
from bench.data.captions.tar_file import read_tar

LINE_WISE: dict[str, Callable[[Path, str | None], Iterator[Batch]]] = {
    ".csv": partial(read_rows, rows_of=partial(csv_rows, delimiter=",")),
    ".tsv": partial(read_rows, rows_of=partial(csv_rows, delimiter="\t")),
    ".jsonl": partial(read_rows, rows_of=json_rows),
    ".ndjson": partial(read_rows, rows_of=json_rows),
    ".txt": partial(read_rows, rows_of=text_rows),
    ".tar": read_tar,
}
READERS = {
    ".parquet": read_parquet,
    **LINE_WISE,
    **{f"{suffix}.gz": read for suffix, read in LINE_WISE.items()},
    ".tgz": read_tar,
}
UNREADABLE = (ValueError, OSError, EOFError, tarfile.TarError, zlib.error, csv.Error)


def read_captions(path: Path, column: str | None) -> Iterator[Batch]:
    """Read a file; ValueError names it and the reason why it cannot be read, also if that shows late."""
    with naming(path):
        if path.stat().st_size == 0:
            raise ValueError("the file is empty")
        yield from choose(suffix_of(path), READERS, "format of captions with the suffix")(path, column)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise the errors of an unreadable file as a ValueError that names it."""
    try:
        yield
    except UNREADABLE as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise ValueError(f"{path}: {why.splitlines()[0]}") from None


def suffix_of(path: Path) -> str:
    """Return a file's suffix in lower case, including the one before `.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [".gz"] else suffixes[-1:])
