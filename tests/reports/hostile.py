"""Records that try to get into the page: a payload in every string that may be any."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.records.record import Record, decode_record

PAYLOAD = (
    "<script>window.hit=1</script><img src=x onerror=window.hit=1><svg onload=window.hit=1>"
    "</title></style></textarea>\"' onfocus=window.hit=1 autofocus onmouseover=window.hit=1 {{7*7}} $x_1$ --> ]]> 日本 "
)


# Whether a field of a kind of record may have any text.
IS_FREE: dict[tuple[object, ...], bool] = {}


@dataclass(frozen=True)
class Name:
    """A name of a mapping."""

    text: str


def hostile(record: Record) -> Record:
    """Put the payload before every string and every name of a mapping, but where a record would be refused for it."""
    found = msgspec.json.decode(msgspec.json.encode(record))
    kind = type(record.measured).__name__
    for place in [*_places(found)]:
        _turn(found, place, lambda text: PAYLOAD + text)
        field = (kind, *("item" if isinstance(step, int) else step for step in place))
        if field not in IS_FREE:
            IS_FREE[field] = _is_record(found)
        if not IS_FREE[field]:
            _turn(found, place, lambda text: text.removeprefix(PAYLOAD))
    return _decode(found)


def _is_record(found: Any) -> bool:
    try:
        _decode(found)
    except (msgspec.ValidationError, ValueError):
        return False
    return True


def _decode(found: Any) -> Record:
    return decode_record(msgspec.json.encode(found), Path("of a test"))


def _places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Return where strings lie, those inside a mapping before its names."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _places(inside, *path, name)
        yield from ((*path, Name(name)) for name in value)
    elif isinstance(value, list):
        for at, inside in enumerate(value):
            yield from _places(inside, *path, at)
    elif isinstance(value, str):
        yield path


def _turn(value: Any, place: tuple[Any, ...], into: Callable[[str], str]) -> None:
    """Change a string where it lies, or a mapping's name."""
    *way, last = place
    for step in way:
        value = value[step]
    if not isinstance(last, Name):
        value[last] = into(value[last])
        return
    old = next(name for name in (last.text, PAYLOAD + last.text) if name in value)
    value[into(old)] = value.pop(old)
