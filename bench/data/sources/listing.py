"""The files of a folder, a name or a glob."""

import os
from collections.abc import Iterator, Sequence
from glob import has_magic
from pathlib import Path

from bench.data.captions.files import expand_path_or_glob


def iterate_files(data: str, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield visible files with one of these endings: below a folder, those of a glob, or the file itself."""
    if Path(data).is_dir():
        for folder, _, names in os.walk(data):
            yield from (Path(folder, name).absolute() for name in names if is_visible(name, suffixes))
    elif Path(data).is_file() or has_magic(data):
        yield from (path for path in expand_path_or_glob(data) if is_visible(path.name, suffixes))


def is_visible(name: str, suffixes: Sequence[str]) -> bool:
    """Return whether a file is not hidden and has one of these endings, in any case."""
    return name.lower().endswith(tuple(suffixes)) and not name.startswith(".")
