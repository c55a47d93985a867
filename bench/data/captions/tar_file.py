"""Captions of a tar shard: each sample's `.txt`, else a field of its `.json`."""

from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path

from bench.data.captions.batches import CaptionBatch, Row, batched, caption_column
from bench.data.captions.line_files import NO_CAPTION, NOT_JSON, caption_of, json_object, unpacked
from bench.data.shards.tar_samples import Member, iterate_samples


def read_tar(path: Path, column: str | None) -> Iterator[CaptionBatch]:
    """Read a shard; ValueError if it ends before its end mark, or if all of its samples lack a caption."""
    with path.open("rb") as raw:
        yield from batched(_rows(unpacked(raw, path), column), raw.tell)


def _rows(file: BufferedReader, column: str | None) -> Iterator[Row]:
    captions, suffixes, found = SampleCaptions(column), set[str](), False
    for key, members in iterate_samples(file):
        suffixes.update(members)
        caption, flaw = captions.caption_of(members)
        found = found or caption is not None or not flaw
        yield key, caption, flaw
    if suffixes and not found:
        wanted = repr(column) if column else "a .txt or .json caption"
        there = ", ".join(f".{suffix}" for suffix in sorted(suffixes))
        raise ValueError(f"none of its samples has {wanted} (there are {there})")


class SampleCaptions:
    """Finds the captions of samples; the first JSON object determines the field."""

    def __init__(self, column: str | None) -> None:
        self._text_only = column in ("txt", ".txt")
        self._asked, self._field = column, None if self._text_only else column

    def caption_of(self, members: Mapping[str, Member]) -> tuple[bytes | None, str]:
        """Return a sample's caption and its flaw."""
        if "txt" in members and (self._asked is None or self._text_only):
            return members["txt"].content, ""
        if "json" not in members or self._text_only:
            return None, NO_CAPTION
        fields = json_object(members["json"].content)
        if fields is None:
            return None, NOT_JSON
        if self._field is None:
            self._field = caption_column([*fields], None)
        return caption_of(fields, self._field)
