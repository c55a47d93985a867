"""Files: names, atomic writing, and reading of untrusted JSON with every error a ValueError."""

import errno
import fcntl
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

import msgspec

WITHOUT_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
REPORTED = "CATLIP_BENCH_SOFT_LOCKS"  # environment variable of a process, or its parent, that reported soft locks
LOCKS = f".*.{'[0-9a-f]' * 32}.lock"
PLAIN = "[A-Za-z0-9=+,_-]+"  # characters of a name as part of a file name
LONGEST_NAME = 80  # characters
LISTING_SECONDS = 60.0  # for which NFS may list a folder as it was before
MAX_BYTES = 2**28  # of a file that is read; a vocabulary of all of WordNet has 20 MB, a record 4
T = TypeVar("T")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it is renamed to `path` if the block ends without an error.

    Temporary files of killed processes in the folder are removed first. A writer holds a lock (see `hold_lock`), so
    that files being written by others stay. ValueError if a device, a pipe or a folder has the name, which a rename
    would replace.
    """
    make_folders(require_regular(path).parent)
    remove_abandoned_writes(path.parent)
    with _hold_new_lock(path) as lock:
        temporary = lock.with_suffix(".part")
        try:
            with add_path_to_errors(path):
                yield temporary
                fsync_path(temporary)
                temporary.replace(path)
                fsync_path(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)


@contextmanager
def hold_lock(file: IO[Any], *, wait: bool = False) -> Iterator[None]:
    """Lock an open file while the block runs; BlockingIOError without `wait` if another process holds the lock.

    The kernel releases it when the process ends. On a file system without flock, which is logged once, a file NAME.held
    beside it names the process; the lock of a process that has ended on this machine is taken over.
    """
    with ExitStack() as stack:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in WITHOUT_FLOCK:
                raise
            from filelock import SoftFileLock, Timeout

            if REPORTED not in os.environ:
                os.environ[REPORTED] = "1"
                folder = Path(file.name).parent
                print(f"no flock in {folder} ({error.strerror}): files *.held are the locks there", file=sys.stderr)
            try:
                stack.enter_context(SoftFileLock(f"{file.name}.held", timeout=-1 if wait else 0))
            except Timeout:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), file.name) from None
        yield


def make_folders(folder: Path) -> None:
    """Make a folder and those above it; ValueError if the first would be in the file system's root, as after a typo."""
    top = Path(*folder.absolute().parts[:2])
    if not top.exists():
        raise ValueError(f"{folder} cannot be made, there is no {top}: make that folder, or name another")
    folder.mkdir(parents=True, exist_ok=True)


def fsync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk, so that it survives a power failure."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _hold_new_lock(path: Path) -> Iterator[Path]:
    """Make a lock file of this writer's own beside the path, and hold it while the block runs."""
    is_held = False
    while not is_held:
        lock = path.with_name(f".{path.name}.{uuid4().hex}.lock")
        with lock.open("xb") as file, hold_lock(file, wait=True):
            is_held = lock.exists()  # another writer may have removed it as abandoned before it was locked
            if is_held:
                yield lock


def remove_abandoned_writes(folder: Path) -> None:
    """Remove the temporary files of writers that have ended; what cannot be locked or removed stays."""
    for lock in folder.glob(LOCKS):
        with suppress(OSError), lock.open("r+b") as file, hold_lock(file):
            lock.with_suffix(".part").unlink(missing_ok=True)
            lock.unlink(missing_ok=True)


def safe_file_name(name: str) -> str:
    """Return the name as part of a file name; a shortened or cleaned name ends with a hash of the original."""
    cleaned = re.sub(rf"(?!{PLAIN}).", "-", name, flags=re.DOTALL)[:LONGEST_NAME]
    if cleaned == name and name:
        return name
    return f"{cleaned}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


def require_regular(path: Path) -> Path:
    """Return the path; ValueError if another kind of file is there, which may block or have no end."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: not a regular file")
    return path


def read_limited(path: Path, most_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file; ValueError if it is another kind of file, or larger than the limit, which is then not read.

    The bytes that are read count, because a file of the kernel's may say that it has none.
    """
    with add_path_to_errors(path), require_regular(path).open("rb") as file:
        if path.stat().st_size <= most_bytes and len(content := file.read(most_bytes + 1)) <= most_bytes:
            return content
    raise ValueError(f"{path}: larger than {most_bytes / 2**20:g} MiB")


def read_intact_files(paths: Iterable[Path], read: Callable[[Path], T]) -> tuple[list[T], list[str]]:
    """Read files; return what the intact ones hold, and the error of each damaged one, which names it."""
    found, damaged = list[T](), list[str]()
    for path in paths:
        try:
            found.append(read(path))
        except (ValueError, OSError) as error:
            damaged.append(str(error))
    return found, damaged


@contextmanager
def add_path_to_errors(path: Path) -> Iterator[None]:
    """Name a file in errors of the system that name none: those of reading and writing, as EIO and ENOSPC."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def prefix_errors(name: object, kinds: tuple[type[Exception], ...] = (ValueError,)) -> Iterator[None]:
    """Raise errors of these kinds as a ValueError of one line that begins with the name of the file."""
    try:
        yield
    except kinds as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise ValueError(f"{name}: {reason.splitlines()[0]}") from None


def decode_json(content: bytes | str, kind: type[T], dec_hook: Callable[[type, Any], Any] | None = None) -> T:
    """Decode JSON, other types by msgspec's `dec_hook`; ValueError if it is malformed, of another type or too deep."""
    try:
        return msgspec.json.decode(content, type=kind, dec_hook=dec_hook)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def require_unique_keys(content: bytes) -> None:
    """Raise ValueError if an object of a JSON document has a key twice, which decoders accept."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise ValueError(f"the key {twice!r} occurs twice")

    json.loads(content, object_pairs_hook=check)


class FormatHeader(msgspec.Struct):
    """The format number of a document."""

    format: int


def require_format(header: FormatHeader, expected: int, remedy: str) -> None:
    """Raise ValueError for a document of another format than the one that is read."""
    if header.format != expected:
        raise ValueError(f"has format {header.format}, this version reads format {expected}: {remedy}")
