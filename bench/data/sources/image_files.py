"""Images that are files of their own: the samples of tables that name them, and of folders of pairs."""

import os
import stat
from pathlib import Path

import pyarrow as pa

from bench.data.sample_index import IndexedSamples
from bench.environment.files import MAX_BYTES, read_limited

OUTSIDE, MISSING_FILE = "a path outside the folder", "a missing image file"
SHOWN_FILES = 3  # in a note


class FileSamples(IndexedSamples):
    """Samples whose images are files of their own."""

    places = (("file", pa.large_string()),)  # absolute path

    def read_image(self, _path: Path, file: str) -> bytes:
        return read_limited(Path(os.fsdecode(file.encode("utf-8", "surrogateescape"))), MAX_BYTES)


def find_image_file(folder: Path, name: str) -> tuple[str, int] | str:
    """Return the path and the bytes of a file that a table names, or the reason why it cannot be used.

    An absolute path is taken as it is; another one has to stay below the folder, and its backslashes are slashes
    where no file has the name with them. Devices and pipes are not read.
    """
    found = _find_file(folder, name)
    if isinstance(found, str) and "\\" in name and not name.startswith(("/", "\\")):
        return _find_file(folder, name.replace("\\", "/"))
    return found


def _find_file(folder: Path, name: str) -> tuple[str, int] | str:
    path = Path(os.path.normpath(name))
    if path.parts[0] == os.pardir:
        return OUTSIDE
    try:
        found = (folder / path).stat()
    except (OSError, ValueError):
        return MISSING_FILE
    return (str(folder / path), found.st_size) if stat.S_ISREG(found.st_mode) else MISSING_FILE
