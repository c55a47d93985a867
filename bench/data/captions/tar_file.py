"""Captions of a tar shard: a sample's is its `.txt`, else a field of its `.json`."""

import gzip
from collections.abc import Iterator, Mapping
from io import BufferedIOBase, BufferedReader
from pathlib import Path

from bench.data.captions.batches import Batch, Rows, caption_column
from bench.data.captions.line_files import NO_CAPTION, NOT_JSON, as_bytes, json_object
from bench.data.shards.tar_samples import Member, samples

COMPRESSED = (".gz", ".tgz")


def read_tar(path: Path, column: str | None) -> Iterator[Batch]:
    """Read a shard; ValueError if it ends before its end mark, or has samples and no caption in any."""
    rows, suffixes, found = Rows(), set[str](), False
    with path.open("rb") as raw, _unpacked(raw, path) as file:
        captions = SampleCaptions(column)
        for key, members in samples(file):
            suffixes.update(members)
            caption, flaw = captions.of(members)
            found = found or caption is not None or not flaw
            rows.add(key, caption, flaw)
            if rows.full:
                yield rows.take(raw.tell())
        if suffixes and not found:
            wanted = (
                f"none of its samples has {column!r}" if column else "none of its samples has a .txt or .json caption"
            )
            raise ValueError(f"{wanted} (there are {', '.join(f'.{suffix}' for suffix in sorted(suffixes))})")
        yield rows.take(path.stat().st_size)


class SampleCaptions:
    """Finds the captions of samples; the first JSON decides on the field."""

    def __init__(self, column: str | None) -> None:
        self._asked, self._field = column, None if column in ("txt", ".txt") else column
        self._text_only = column in ("txt", ".txt")

    def of(self, members: Mapping[str, Member]) -> tuple[bytes | None, str]:
        """Return a sample's caption, or what it lacks."""
        if "txt" in members and (self._asked is None or self._text_only):
            return members["txt"].content, ""
        if "json" not in members or self._text_only:
            return None, NO_CAPTION
        fields = json_object(members["json"].content)
        if fields is None:
            return None, NOT_JSON
        if self._field is None:
            self._field = caption_column([*fields], None)
        caption = as_bytes(fields.get(self._field))
        return caption, NO_CAPTION if caption is None and fields.get(self._field, "") is not None else ""


def _unpacked(raw: BufferedReader, path: Path) -> BufferedIOBase:
    return gzip.GzipFile(fileobj=raw) if path.suffix in COMPRESSED else raw
