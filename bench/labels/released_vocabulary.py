"""CoreNet's released vocabulary, a pickle of a dict from synset to count. Nothing in it is executed."""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn


class _PlainUnpickler(pickle._Unpickler):  # noqa: SLF001
    """Reads dict, str and int. A pickle can only call what it finds by name, and it finds nothing.

    Python's own class, not the one in C, which makes room for as many objects as a pickle of ten bytes says.
    """

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for object {pid!r}")


def read_released(content: bytes, path: Path) -> dict[str, int]:
    """Return synsets with their counts, in the file's order; ValueError for anything but a dict of str to int."""
    try:
        found = _PlainUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # noqa: BLE001 - what a broken pickle raises is not listed anywhere
        raise ValueError(f"{path}: only a pickle of dict, str and int is read: {error}") from None
    if type(found) is not dict or not all(type(key) is str and type(count) is int for key, count in found.items()):
        raise ValueError(f"{path}: only a pickle of dict, str and int is read, this holds something else")
    if any(count < 0 for count in found.values()):
        raise ValueError(f"{path}: a count is negative")
    return found
