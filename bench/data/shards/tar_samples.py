"""Samples of a tar shard as webdataset and img2dataset write it, read with tarfile.

Consecutive members whose names are equal up to the first dot of the file name form a sample; what follows the dot is a
member's suffix, as "jpg" or "syn.json". Names are compared and shown, and never used as paths.
"""

import tarfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, NoReturn, cast

from bench.data.captions.batches import MAX_LINE_BYTES

CAPTION_SUFFIXES = ("txt", "json")
IMAGE_NAMES = ("image", "img", "photo")  # stems of suffixes, as in KEY.image.jpg
BLOCK_BYTES, CHUNK_BYTES = tarfile.BLOCKSIZE, 2**20
TRUNCATED, TRUNCATED_REMEDY = "the archive is truncated", "copy or download it again"
EXTENSIONS = (*b"LKxgX",)  # types of headers that extend the next ones: long names, and pax records
MAX_TEXT_BYTES = 4 * MAX_LINE_BYTES  # of all texts of a sample
# Of one such header; of pax records that stay for all members.
MAX_EXTENSION_BYTES, MAX_GLOBAL_RECORDS = (
    2**16,
    100,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a sample."""

    offset: int  # of the content in the archive, in bytes
    size: int  # bytes
    content: bytes  # only of .txt and .json members, else empty


def last_suffix(suffix: str) -> str:
    """Return the last part of a compound suffix."""
    return suffix.rpartition(".")[2]


def find_image_suffix(members: Mapping[str, Member], suffixes: Sequence[str]) -> str | None:
    """Return the suffix of a sample's image: the first plain one, else a compound one.

    Of compound ones it is the first that has a caption beside it, then the first that is named as an image.
    """
    for suffix in suffixes:
        if suffix in members:
            return suffix
    compound = [suffix for suffix in members if last_suffix(suffix) in suffixes]
    captioned = {_stem(suffix) for suffix in members if last_suffix(suffix) in CAPTION_SUFFIXES}
    return min(compound, key=lambda suffix: _rank(suffix, captioned), default=None)


def find_captions(members: Mapping[str, Member]) -> dict[str, Member]:
    """Return a sample's captions; if none is plain `txt` or `json`, compound ones have these suffixes, too.

    Of several compound ones it is that whose image `find_image_suffix` returns.
    """
    captions = {
        suffix: member
        for suffix, member in members.items()
        if last_suffix(suffix) in CAPTION_SUFFIXES
    }
    if not captions.keys() & {*CAPTION_SUFFIXES}:
        images = {_stem(suffix) for suffix in members if suffix not in captions}
        for suffix in sorted(captions, key=lambda suffix: _rank(suffix, images)):
            captions.setdefault(last_suffix(suffix), members[suffix])
    return captions


def _rank(suffix: str, stems: Container[str]) -> tuple[bool, bool]:
    """Return the place of a compound suffix among others: the lowest has one of the stems, then that of an image."""
    return _stem(suffix) not in stems, _stem(suffix) not in IMAGE_NAMES


def _stem(suffix: str) -> str:
    return suffix.rpartition(".")[0]


def iterate_samples(file: BufferedIOBase) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield each sample's key and its members by lower-case suffix, up to the archive's end mark.

    Hidden files are skipped, as in webdataset. Raises ValueError or tarfile.TarError for an archive that is truncated,
    continues after its end mark, has a member twice, or holds more texts in a sample than captions have.
    """
    key = ""
    members = dict[str, Member]()
    text_bytes = 0
    for name, member in _iterate_files(file):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if not stem:
            continue
        suffix = suffix.lower()
        member_key = folder + slash + stem
        if members and member_key != key:
            yield key, members
            members = {}
            text_bytes = 0
        key = member_key
        if suffix in members:
            raise ValueError(f"{name} occurs twice: keys must differ between samples")
        members[suffix] = member
        text_bytes += len(member.content)
        if text_bytes > MAX_TEXT_BYTES:
            raise ValueError(f"the texts of {key} are longer than {MAX_TEXT_BYTES // 2**20} MiB")
    if members:
        yield key, members


class _BoundedHeader(tarfile.TarInfo):
    """A header of regular size: tarfile reads what extends a header at once, and follows sizes below zero backwards."""

    def _proc_member(self, tar: Any) -> Any:
        if self.size < 0 or (self.type[0] in EXTENSIONS and self.size > MAX_EXTENSION_BYTES):
            raise ValueError(f"a header claims {self.size:,} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._proc_gnusparse_10()
        try:
            header = super()._proc_member(tar)  # type: ignore[misc]
        except RecursionError:
            raise ValueError("its headers extend each other without end") from None
        if len(tar.pax_headers) > MAX_GLOBAL_RECORDS or not 0 <= tar.offset - header.offset < 2**62:
            raise ValueError(f"the headers of {header.name} are damaged")
        return header

    def _proc_gnusparse_10(self, *_: object) -> NoReturn:
        raise ValueError(f"{self.name} is a sparse file, expected a regular file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10


def _iterate_files(file: BufferedIOBase) -> Iterator[tuple[str, Member]]:
    """Yield all files, under names that are valid Unicode."""
    with _truncation_named(), tarfile.open(fileobj=file, mode="r:", tarinfo=_BoundedHeader) as tar:
        while (header := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
            if not header.isfile():
                continue
            name = header.name.encode("utf-8", "replace").decode()
            yield name, Member(header.offset_data, header.size, _read_content(tar, header, name))
        file.seek(tar.offset)  # tarfile's end, which may be a truncated header
        if file.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
            raise ValueError(f"{TRUNCATED}: it has no end mark; {TRUNCATED_REMEDY}")
        while rest := file.read(CHUNK_BYTES):
            if rest != bytes(len(rest)):
                raise ValueError(
                    "the archive continues after its end mark: were archives concatenated?"
                )


@contextmanager
def _truncation_named() -> Iterator[None]:
    """Raise tarfile's error for a content that ends early as a ValueError with the remedy."""
    try:
        yield
    except tarfile.ReadError as error:
        if str(error) != "unexpected end of data":
            raise
        raise ValueError(f"{TRUNCATED}; {TRUNCATED_REMEDY}") from error


def _read_content(tar: tarfile.TarFile, header: tarfile.TarInfo, name: str) -> bytes:
    """Return the content of a caption, and no bytes of other members."""
    suffix = name.rpartition("/")[2].partition(".")[2].lower()
    if last_suffix(suffix) not in CAPTION_SUFFIXES:
        return b""
    if header.size > MAX_LINE_BYTES:
        if suffix not in CAPTION_SUFFIXES:
            return b""
        raise ValueError(f"{name} is longer than {MAX_LINE_BYTES // 2**20} MiB")
    content = cast("IO[bytes]", tar.extractfile(header)).read()
    if len(content) != header.size:
        raise ValueError(f"{TRUNCATED} in {name}; {TRUNCATED_REMEDY}")
    return content
