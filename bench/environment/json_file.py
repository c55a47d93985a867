"""Reading of untrusted JSON: its size is limited, and every error is a ValueError."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

MAX_BYTES = 2**28  # a vocabulary of all of WordNet has 20 MB, a record 4

T = TypeVar("T")


def read_limited(path: Path, most_bytes: int = MAX_BYTES) -> bytes:
    """Read a file; ValueError if it is larger than the limit."""
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path}: larger than {most_bytes / 2**20:g} MiB")
    return content


def decode_json(content: bytes | str, kind: type[T]) -> T:
    """Decode JSON; ValueError if it is malformed, of another type, or nested too deep."""
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def decode_older(content: bytes | str, kind: type[T], upgrade: Callable[[dict[str, Any]], dict[str, Any]]) -> T:
    """Decode an object whose names an earlier version may have written; ValueError as `decode_json`."""
    document: dict[str, Any] = decode_json(content, dict)
    with suppress(LookupError, TypeError, AttributeError):  # it is broken, and converting says in what
        document = upgrade(document)
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
