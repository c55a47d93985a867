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
