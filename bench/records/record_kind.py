"""A kind of record: what runs of one kind leave, as a struct with a tag. No torch here."""

from typing import Any, ClassVar

import msgspec


class RecordContent:
    """What a run left: a `RecordKind`, or the content of a record whose kind is not known here."""

    __slots__ = ()


class RecordKind(
    msgspec.Struct,
    RecordContent,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
):
    """The fields of a kind of record; a subclass is frozen, has keywords alone and a tag."""

    needs_experiment: ClassVar[bool] = True  # whether its record has an experiment


class UnknownKind(dict[str, Any], RecordContent):
    """The content of a record as it is written; the extension that knows its kind is not loaded."""

    __slots__ = ()


class Tag(msgspec.Struct):
    """The kind that a document names."""

    kind: str


def tag_of(kind: type[msgspec.Struct]) -> str:
    """Return the tag of a struct, which names its kind in files."""
    return str(kind.__struct_config__.tag)
