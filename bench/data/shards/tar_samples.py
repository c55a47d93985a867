"""Samples of a tar shard as webdataset and img2dataset write it, read with tarfile: nothing in it is executed.

Neighbouring members whose names are equal up to the first dot of the file name are one sample. A name is compared and
told, and never becomes a path.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, cast

from bench.data.captions.line_files import LONGEST_LINE

BLOCK, CHUNK = tarfile.BLOCKSIZE, 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a sample."""

    offset: int  # of its content, in the archive
    size: int  # bytes
    content: bytes  # of what can hold a caption, else empty


def samples(file: BufferedIOBase) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield each sample's key and its members by suffix in lower case, up to the archive's end mark.

    Hidden files are left out, as webdataset does. Raises ValueError or tarfile.TarError for an archive that is
    truncated, that goes on behind its end mark, or that has a member twice: none is silently shorter.
    """
    key, members = "", dict[str, Member]()
    for name, member in _members(file):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if not stem:
            continue
        if members and folder + slash + stem != key:
            yield key, members
            members = {}
        key, suffix = folder + slash + stem, suffix.lower()
        if suffix in members:
            raise ValueError(f"{name} is there twice: keys must differ from sample to sample")
        members[suffix] = member
    if members:
        yield key, members


def _members(file: BufferedIOBase) -> Iterator[tuple[str, Member]]:
    """Yield all files, by names that can be stored as text."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (found := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
            if not found.isfile():
                continue
            name = found.name.encode("utf-8", "replace").decode()
            if found.issparse():
                raise ValueError(f"{name} is stored as a sparse file, which a shard has no use for")
            yield name, Member(found.offset_data, found.size, _content(tar, found, name))
        file.seek(tar.offset)  # where tarfile found nothing more: it takes a header cut in half for an end, too
        if file.read(BLOCK) != bytes(BLOCK):
            raise ValueError("the archive is truncated: it has no end mark")
        while rest := file.read(CHUNK):
            if any(rest):
                raise ValueError("the archive goes on behind its end mark: were archives put one behind the other?")


def _content(tar: tarfile.TarFile, found: tarfile.TarInfo, name: str) -> bytes:
    if not name.lower().endswith((".txt", ".json")):
        return b""
    if found.size > LONGEST_LINE:
        raise ValueError(f"{name} is longer than {LONGEST_LINE // 2**20} MiB")
    content = cast("IO[bytes]", tar.extractfile(found)).read()
    if len(content) != found.size:
        raise ValueError(f"the archive is truncated in {name}")
    return content
