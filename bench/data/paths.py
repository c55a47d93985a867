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
    OverflowError,
    RecursionError,
)
DIGEST_BYTES = 2**16  # read at each of three places of a file


def iterate_files(path_or_glob: str, suffixes: Sequence[str] = ("",)) -> Iterator[Path]:
    """Yield the visible files with one of these endings: below a folder, of a glob, or the file itself."""
    for name in _iterate_paths(path_or_glob):
        path = Path(name)
        if is_visible_with_suffix(path.name, suffixes) and path.is_file():
            yield path.absolute()


def _iterate_paths(path_or_glob: str) -> Iterator[str]:
    """Yield the path, the paths below it if it is a folder, or what a glob matches."""
    if Path(path_or_glob).is_dir():
        for folder, _, names in os.walk(path_or_glob):
            for name in names:
                yield f"{folder}/{name}"
    elif Path(path_or_glob).exists():
        yield path_or_glob
    else:
        yield from iglob(path_or_glob, recursive=True)  # noqa: PTH207


def is_visible_with_suffix(name: str, suffixes: Sequence[str]) -> bool:
    """Return whether a file is not hidden and has one of these endings, in any case."""
    if name.startswith("."):
        return False
    return name.lower().endswith(tuple(suffixes))


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
