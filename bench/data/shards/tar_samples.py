"""Samples of a tar shard as webdataset and img2dataset write it, read with tarfile.

Consecutive members whose names are equal up to the first dot of the file name form a sample. Names are compared and
shown, and never used as paths.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, cast

from bench.data.captions.batches import MAX_LINE_BYTES

BLOCK_BYTES, CHUNK_BYTES = tarfile.BLOCKSIZE, 2**20


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a sample."""

    offset: int  # of the content in the archive, in bytes
    size: int  # bytes
    content: bytes  # only of .txt and .json members, else empty


def iterate_samples(file: BufferedIOBase) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield each sample's key and its members by lower-case suffix, up to the archive's end mark.

    Hidden files are skipped, as in webdataset. Raises ValueError or tarfile.TarError for an archive that is truncated,
    continues after its end mark, or has a member twice.
    """
    key, members = "", dict[str, Member]()
    for name, member in _iterate_files(file):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if not stem:
            continue
        if members and folder + slash + stem != key:
            yield key, members
            members = {}
        key, suffix = folder + slash + stem, suffix.lower()
        if suffix in members:
            raise ValueError(f"{name} occurs twice: keys must differ between samples")
        members[suffix] = member
    if members:
        yield key, members


def _iterate_files(file: BufferedIOBase) -> Iterator[tuple[str, Member]]:
    """Yield all files, under names that are valid Unicode."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (header := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
            if not header.isfile():
                continue
            name = header.name.encode("utf-8", "replace").decode()
            if header.issparse():
                raise ValueError(f"{name} is a sparse file, expected a regular file")
            yield name, Member(header.offset_data, header.size, _read_content(tar, header, name))
        file.seek(tar.offset)  # tarfile's end, which may be a truncated header
        if file.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
            raise ValueError("the archive is truncated: it has no end mark")
        while rest := file.read(CHUNK_BYTES):
            if any(rest):
                raise ValueError("the archive continues after its end mark: were archives concatenated?")


def _read_content(tar: tarfile.TarFile, header: tarfile.TarInfo, name: str) -> bytes:
    if not name.lower().endswith((".txt", ".json")):
        return b""
    if header.size > MAX_LINE_BYTES:
        raise ValueError(f"{name} is longer than {MAX_LINE_BYTES // 2**20} MiB")
    content = cast("IO[bytes]", tar.extractfile(header)).read()
    if len(content) != header.size:
        raise ValueError(f"the archive is truncated in {name}")
    return content
