"""Files: names, atomic writing, and reading of untrusted JSON with every error a ValueError."""

import errno
import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

import msgspec

WITHOUT_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
TEMPORARY_FILES = f".*.{'[0-9a-f]' * 32}.part"
SECONDS_PER_DAY = 24 * 60 * 60
PLAIN = "[A-Za-z0-9=+,_-]+"  # characters of a name as part of a file name
LONGEST_NAME = 80  # characters
MAX_BYTES = 2**28  # of a file that is read; a vocabulary of all of WordNet has 20 MB
T = TypeVar("T")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` if the block ends without an error.

    Temporary files of killed processes in the folder are removed a day later. ValueError if a device, a pipe or a
    folder has the name, which a rename would replace.
    """
    make_folders_unless_in_root(require_regular_file_if_exists(path).parent)
    _remove_old_temporary_files(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with add_path_to_errors(path):
            yield temporary
            fsync_path(temporary)
            temporary.replace(path)
            fsync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_old_temporary_files(folder: Path) -> None:
    """Remove the temporary files that nobody has written to for a day; what cannot be removed stays."""
    for temporary in folder.glob(TEMPORARY_FILES):
        with suppress(OSError):
            if temporary.stat().st_mtime < time.time() - SECONDS_PER_DAY:
                temporary.unlink()


@contextmanager
def hold_file_lock(file: IO[Any], *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of an open file while the block runs.

    If another process holds it, wait, or without `wait` raise BlockingIOError. The kernel releases it when the process
    ends. A file system without flock is logged once, and nothing is locked.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in WITHOUT_FLOCK:
            raise
        _log_missing_flock(Path(file.name).parent)
    yield


@cache
def _log_missing_flock(folder: Path) -> None:
    print(f"no flock in {folder}: two commands at once may write to it", file=sys.stderr)


def make_folders_unless_in_root(folder: Path) -> None:
    """Make a folder and those above it; ValueError if one would be made in the file system's root, as after a typo."""
    top = Path(*folder.absolute().parts[:2])
    if not top.exists():
        raise ValueError(
            f"{folder} cannot be made, there is no {top}: make that folder, or name another"
        )
    folder.mkdir(parents=True, exist_ok=True)


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk, so that it survives a power failure."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def to_safe_file_name(name: str) -> str:
    """Return a name that is safe in a file name, with at most 80 characters; a changed name ends with a hash."""
    cleaned = re.sub(rf"(?!{PLAIN}).", "-", name, flags=re.DOTALL)[:LONGEST_NAME]
    if cleaned == name and name:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{cleaned}-{digest[:8]}"


def require_regular_file_if_exists(path: Path) -> Path:
    """Return the path; ValueError if something else than a file is there: a pipe or device may block or have no end."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    return path


def read_bytes_unless_larger(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file; ValueError if it is another kind of file, or larger than `max_bytes`."""
    with add_path_to_errors(path), require_regular_file_if_exists(path).open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path}: larger than {max_bytes / 2**20:g} MiB")
    return content


def read_intact_files(
    paths: Iterable[Path], read: Callable[[Path], T]
) -> tuple[list[T], list[str]]:
    """Read files; return the contents of those that can be read, and the error message of each other one."""
    contents: list[T] = []
    errors: list[str] = []
    for path in paths:
        try:
            contents.append(read(path))
        except (ValueError, OSError) as error:
            errors.append(str(error))
    return contents, errors


@contextmanager
def add_path_to_errors(path: Path) -> Iterator[None]:
    """Add the path to OSErrors in the block that name no file, such as EIO and ENOSPC."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def prefix_errors(
    prefix: object, error_types: tuple[type[Exception], ...] = (ValueError,)
) -> Iterator[None]:
    """Raise errors of these types in the block as a ValueError of one line that begins with `prefix`."""
    try:
        yield
    except error_types as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise ValueError(f"{prefix}: {reason.splitlines()[0]}") from None


def decode_json(
    content: bytes | str, target_type: type[T], dec_hook: Callable[[type, Any], Any] | None = None
) -> T:
    """Return JSON decoded to `target_type`; ValueError if it is malformed or unfit. `dec_hook` is msgspec's."""
    try:
        return msgspec.json.decode(content, type=target_type, dec_hook=dec_hook)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


class FormatNumber(msgspec.Struct):
    """The format number of a document."""

    format: int


def require_format_number(header: FormatNumber, expected_format: int, remedy: str) -> None:
    """Raise ValueError for a document of another format than the one that is read."""
    if header.format != expected_format:
        raise ValueError(
            f"has format {header.format}, this version reads format {expected_format}: {remedy}"
        )
