"""The files that a path or a glob names, and digests of their content."""

import os
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from hashlib import sha256
from pathlib import Path

DIGEST_BYTES = 2**16  # read at each of three places of a file


def expand_path_or_glob(name: str) -> list[Path]:
    """Return a file, the visible files below a folder, or those of a glob; ValueError for another name."""
    path = Path(name).absolute()
    if path.is_file():
        return [path]
    if path.is_dir():
        return [
            file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
        ]
    if not has_magic(name):
        raise ValueError(f"no file, folder or glob {name!r}")
    return [Path(file).absolute() for file in glob(name, recursive=True) if Path(file).is_file()]  # noqa: PTH207


def iterate_files(data: str, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield visible files with one of these endings: below a folder, those of a glob, or the file itself."""
    if Path(data).is_dir():
        for folder, _, names in os.walk(data):
            yield from (
                Path(folder, name).absolute() for name in names if is_visible(name, suffixes)
            )
    elif Path(data).is_file() or has_magic(data):
        yield from (path for path in expand_path_or_glob(data) if is_visible(path.name, suffixes))


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
