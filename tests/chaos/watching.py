"""What Python is asked to start, to reach, and to write outside of a folder: its audit events."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

STARTS = (
    *("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"),
    *("socket.connect", "socket.getaddrinfo"),
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@contextmanager
def watch_audit_events(folder: Path) -> Iterator[list[str]]:
    """Collect the events of what is started, reached, or opened to be written outside of a folder, in the block.

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
def _watchers() -> list[tuple[Path, list[str]]]:
    """Return who is to be told; the hook that tells them stays as long as the process."""
    watchers = list[tuple[Path, list[str]]]()

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        for folder, seen in watchers:
            if event.startswith(STARTS) or (
                event == "open" and _writes_outside(folder, *arguments)
            ):
                seen.append(f"{event} {arguments!r}"[:200])

    sys.addaudithook(hear)
    return watchers


def _writes_outside(folder: Path, path: object, mode: str | None, flags: int | None) -> bool:
    is_write = any(letter in mode for letter in "wxa+") if mode else (flags or 0) & WRITES
    if not is_write or not isinstance(path, str | bytes | os.PathLike) or path == os.devnull:
        return False
    return not Path(os.path.realpath(os.fsdecode(path))).is_relative_to(folder)
