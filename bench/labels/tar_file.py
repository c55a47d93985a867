"""Captions of a tar shard as webdataset and img2dataset write it, read with tarfile: nothing in it is executed.

Neighbouring members whose names are equal up to the first dot of the file name are one sample. Its caption is its
`.txt`, else a field of its `.json`.
"""

import gzip
import tarfile
from collections.abc import Iterator
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import IO, cast

from bench.labels.batches import Batch, Rows, caption_column
from bench.labels.line_files import LONGEST_LINE, NO_CAPTION, NOT_JSON, as_bytes, json_object

BLOCK = tarfile.BLOCKSIZE


def read_tar(path: Path, column: str | None) -> Iterator[Batch]:
    """Read a shard; ValueError if it ends before its end mark, or has samples and no caption in any."""
    rows, suffixes, found = Rows(), set[str](), False
    with path.open("rb") as raw, _unpacked(raw, path) as file:
        captions = _Captions(column)
        for key, members in _samples(file):
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


class _Captions:
    """Finds the captions of samples; the first JSON decides on the field."""

    def __init__(self, column: str | None) -> None:
        self._asked, self._field = column, None if column in ("txt", ".txt") else column
        self._text_only = column in ("txt", ".txt")

    def of(self, members: dict[str, bytes]) -> tuple[bytes | None, str]:
        """Return a sample's caption, or what it lacks."""
        if "txt" in members and (self._asked is None or self._text_only):
            return members["txt"], ""
        if "json" not in members or self._text_only:
            return None, NO_CAPTION
        fields = json_object(members["json"])
        if fields is None:
            return None, NOT_JSON
        if self._field is None:
            self._field = caption_column([*fields], None)
        caption = as_bytes(fields.get(self._field))
        return caption, NO_CAPTION if caption is None and fields.get(self._field, "") is not None else ""


def _unpacked(raw: BufferedReader, path: Path) -> BufferedIOBase:
    return gzip.GzipFile(fileobj=raw) if path.suffix in (".gz", ".tgz") else raw


def _samples(file: BufferedIOBase) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield each sample's key and its members by suffix, with the content of those that can hold a caption."""
    key, members = "", dict[str, bytes]()
    for name, content in _members(file):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if members and folder + slash + stem != key:
            yield key, members
            members = {}
        key = folder + slash + stem
        members[suffix.lower()] = content
    if members:
        yield key, members


def _members(file: BufferedIOBase) -> Iterator[tuple[str, bytes]]:
    """Yield the names of all files with the content of those that can hold a caption, up to the archive's end mark."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
            if not member.isfile():
                continue
            content = b""
            if member.name.lower().endswith((".txt", ".json")):
                if member.size > LONGEST_LINE:
                    raise ValueError(f"{member.name} is longer than {LONGEST_LINE // 2**20} MiB")
                content = cast("IO[bytes]", tar.extractfile(member)).read()
                if len(content) != member.size:
                    raise ValueError(f"the archive is truncated in {member.name}")
            yield member.name, content
        file.seek(tar.offset)  # where tarfile found nothing more: it takes a header cut in half for an end, too
        if file.read(BLOCK) != bytes(BLOCK):
            raise ValueError("the archive is truncated: it has no end mark")
