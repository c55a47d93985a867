"""The contents of records: one struct with a tag for each kind of record. No torch here."""

from typing import Any, ClassVar

import msgspec


class AnyRecordContent:
    """Marker base of the contents of records: of a `RecordContent`, or of a content whose kind is not known here."""

    __slots__ = ()
    is_timed: ClassVar[bool] = False  # whether figures depend on the device and its settings


class RecordContent(
    msgspec.Struct,
    AnyRecordContent,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
):
    """What a run of one kind left; each kind is a subclass, frozen, with keywords alone and a tag of its own."""


class UnknownRecordContent(dict[str, Any], AnyRecordContent):
    """The decoded JSON of a content; the extension that knows its kind is not loaded."""

    __slots__ = ()


class ContentKindTag(msgspec.Struct):
    """The tag of a content's kind, read before its class is known."""

    kind: str


def kind_tag(content_type: type[msgspec.Struct]) -> str:
    """Return the tag of a class of contents, which names the kind in files and file names."""
    return str(content_type.__struct_config__.tag)
