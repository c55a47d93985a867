"""What hostile inputs are made of."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

from tests.chaos.case import EXECUTED

# Given a folder to write into; what it may leave lies in the folder `out` there.
Attack = Callable[[Path], object]
HOSTILE_NAME = "\x1b]0;owned\x07\x1b[2J\u202edog"
DEEP = b"[" * 200_000
BILLION_LAUGHS = b"a: &a [x,x]\n" + b"".join(
    b"%c: &%c [*%c,*%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 120)
)


class PickledCall:
    """Unpickled, it calls."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._made = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._made


def pickle_payload(folder: Path, protocol: int = 4) -> bytes:
    """Return a pickle that makes a file; `pickle.loads` would."""
    return pickle.dumps(
        {"n1": 1, "n2": PickledCall(os.system, f"touch {folder / EXECUTED}")}, protocol
    )


def write_file(path: Path, content: bytes) -> Path:
    """Write a file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_sparse_file(path: Path) -> Path:
    """Write a file of 8 GiB that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(2**33)
    return path


def run_command_line(*words: str) -> object:
    """Run a command line in this process; exit codes are those of refusals and of what was done."""
    from bench.__main__ import main

    return main(words)


def require_refusal(act: Callable[[], object]) -> None:
    """Run what has to be refused: by an error of a person's, or an exit code."""
    try:
        found = act()
    except (ValueError, OSError):
        return
    assert isinstance(found, int), "it was taken"
    assert found, "it was done"
