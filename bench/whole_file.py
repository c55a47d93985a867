"""A file that is whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, in the same folder; it becomes `path` if the block ends well.

    What a killed process left of `path` is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in path.parent.glob(f".{_literal(path.name)}.*.part"):
        stale.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _literal(name: str) -> str:
    """Return a glob pattern that means this name."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
