"""Files that are written atomically."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

LOCKS = f".*.{'[0-9a-f]' * 32}.lock"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it is renamed to `path` if the block ends without an error.

    Temporary files of killed processes in the folder are removed first. A writer holds a lock, which the kernel
    releases when the writer ends, so that files being written by others stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.glob(LOCKS):
        _remove_if_unlocked(other)
    lock = path.with_name(f".{path.name}.{uuid4().hex}.lock")
    temporary = lock.with_suffix(".part")
    with lock.open("xb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield temporary
            fsync_path(temporary)
            temporary.replace(path)
            fsync_path(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk, so that it survives a power failure."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove_if_unlocked(lock: Path) -> None:
    """Remove a temporary file whose writer has ended."""
    with suppress(FileNotFoundError, BlockingIOError), lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.with_suffix(".part").unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
