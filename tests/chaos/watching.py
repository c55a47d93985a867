"""What Python is asked to start, to reach, and to change outside of a folder: its audit events."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

STARTS = (
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "socket.connect",
    "socket.getaddrinfo",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Where an event's arguments name what is changed, and the number of the open folder that a name is relative to.
CHANGES = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),  # the first, too: what is written to one is in the other
    "os.symlink": ((1, 2),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.truncate": ((0, None),),
}
# and not of what it leads to
CHANGES_BY_NAME = ("os.rename", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rmdir")
Watcher = tuple[Path, list[str]]


@contextmanager
def watch_audit_events(folder: Path) -> Iterator[list[str]]:
    """Collect the events of what is started, reached, or changed outside of a folder, while the block runs.

    Not heard is what libraries in C open by themselves.
    """
    seen, kept = list[str](), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # modules that are imported meanwhile are no attack
    _watchers().append((folder.resolve(), seen))
    try:
        yield seen
    finally:
        _watchers().clear()
        sys.dont_write_bytecode = kept


@cache
def _watchers() -> list[Watcher]:
    """Return who is to be told; the hook that tells them stays as long as the process."""
    watchers = list[Watcher]()

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        for folder, seen in watchers:
            is_away = any(not path.is_relative_to(folder) for path in changed_paths(event, arguments))
            if is_away or event.startswith(STARTS):
                seen.append(f"{event} {arguments!r}"[:200])

    sys.addaudithook(hear)
    return watchers


def changed_paths(event: str, arguments: tuple[Any, ...]) -> list[Path]:
    """Return what an event changes, whatever links and `..` lead there; nothing where it only reads."""
    if event == "open":
        path, mode, flags = arguments
        is_write = any(letter in mode for letter in "wxa+") if isinstance(mode, str) else (flags or 0) & WRITES
        return [_real(path)] if is_write and _is_path(path) else []
    named = [
        _at(arguments[place], -1 if of is None else arguments[of])
        for place, of in CHANGES.get(event, ())
        if _is_path(arguments[place])
    ]
    found = [_entry(path) if event in CHANGES_BY_NAME else _real(path) for path in named]
    if event == "os.symlink" and found:
        found.append(_real(found[0].parent / os.fsdecode(arguments[0])))
    return found


def _is_path(argument: object) -> bool:
    return isinstance(argument, str | bytes | os.PathLike)


def _at(path: Any, folder: int) -> str:
    """Return a path that may be relative to an open folder, given by its number."""
    own = os.fsdecode(path)
    return own if folder < 0 else str(Path(f"/proc/self/fd/{folder}").readlink() / own)


def _real(path: Any) -> Path:
    return Path(os.path.realpath(os.fsdecode(path)))


def _entry(path: str) -> Path:
    """Return where a name lies, which may be a link."""
    folder, name = os.path.split(path)
    return _real(path) if name in ("", ".", "..") else _real(folder or ".") / name
