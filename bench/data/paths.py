"""The files that a path or a glob names, and digests of their content."""

import csv
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from glob import iglob
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

# Errors of reading a damaged file of any kind.
UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    tarfile.TarError,
    zlib.error,
    csv.Error,
    pa.ArrowNotImplementedError,
)
DIGEST_BYTES = 2**16  # read at each of three places of a file


def iterate_files(data: str, suffixes: Sequence[str] = ("",)) -> Iterator[Path]:
    """Yield visible files with one of these endings: below a folder, those of a glob, or the file itself."""
    names: Iterator[str] = iter([data])
    if Path(data).is_dir():
        names = (f"{folder}/{name}" for folder, _, names in os.walk(data) for name in names)
    elif not Path(data).exists():
        names = iglob(data, recursive=True)  # noqa: PTH207
    for name in names:
        path = Path(name)
        if is_visible(path.name, suffixes) and path.is_file():
            yield path.absolute()


def is_visible(name: str, suffixes: Sequence[str]) -> bool:
    """Return whether a file is not hidden and has one of these endings, in any case."""
    return name.lower().endswith(tuple(suffixes)) and not name.startswith(".")


def compound_suffix(path: Path) -> str:
    """Return a file's suffix in lower case, including the one before `.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [".gz"] else suffixes[-1:])


def digest_file_excerpts(path: Path) -> str:
    """Return a hash of a file's size and of 64 KiB at its beginning, middle and end.

    An edit outside these that keeps the size is not detected.
    """
    size = path.stat().st_size
    digest = sha256(str(size).encode())
    with path.open("rb") as file:
        for offset in (0, (size - DIGEST_BYTES) // 2, size - DIGEST_BYTES):
            file.seek(max(0, offset))
            digest.update(file.read(DIGEST_BYTES))
    return digest.hexdigest()[:16]
