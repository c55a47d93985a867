"""Samples of a tar shard as webdataset and img2dataset write it, read with tarfile.

Consecutive members whose names are equal up to the first dot of the file name form a sample; what follows the dot is a
member's suffix, as "jpg" or "syn.json". Names are compared and shown, and never used as paths.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, NoReturn, cast

from bench.data.columns import CAPTION_SUFFIXES, EMBEDDING_SUFFIXES, IMAGE_SUFFIXES
from bench.data.text_tables import MAX_LINE_BYTES, decode_json_object, decode_utf8_without_bom

MAX_OTHER_BYTES = 2**13  # of a member that may be a text, by a suffix that is not known
BLOCK_BYTES = tarfile.BLOCKSIZE
CHUNK_BYTES = 2**20
TRUNCATED = "the archive is truncated; copy or download it again"
EXTENSIONS = (*b"LKxgX",)  # types of headers that extend the next ones: long names, and pax records
MAX_EXTENSION_BYTES = 2**16  # of one such header
MAX_GLOBAL_RECORDS = 100  # pax records that stay for all members
MAX_TEXT_BYTES = 4 * MAX_LINE_BYTES  # of all texts of a sample


@dataclass(frozen=True, slots=True)
class SampleMember:
    """A file of a sample."""

    offset: int  # of the content in the archive, in bytes
    size: int  # bytes
    content: bytes  # of a member that may be a text, else empty


MembersBySuffix = dict[str, SampleMember]


def find_image_member(
    members: MembersBySuffix, preferred_suffixes: Sequence[str]
) -> SampleMember | None:
    """Return a sample's image: the member with the first of the suffixes, else one with a compound one (image.jpg)."""
    for suffix in preferred_suffixes:
        if suffix in members:
            return members[suffix]
    for suffix, member in members.items():
        if _part_after_last_dot(suffix) in preferred_suffixes:
            return member
    return None


def decode_texts_and_json_objects(members: MembersBySuffix) -> dict[str, object]:
    """Return a sample's texts and JSON objects by suffix; all other members are left out."""
    values = dict[str, object]()
    for suffix, member in members.items():
        kind = _part_after_last_dot(suffix)
        if kind == "json":
            fields = decode_json_object(member.content)
            if fields is not None:
                values[suffix] = fields
        elif kind in CAPTION_SUFFIXES or _looks_like_caption(member.content):
            values[suffix] = decode_utf8_without_bom(member.content)
    return values


def _looks_like_caption(content: bytes) -> bool:
    """Return whether bytes of an unknown suffix may be a caption: a UTF-8 text with a letter, and no markup."""
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        return False
    return "\0" not in text and not text.startswith("<") and any(map(str.isalpha, text))


def _part_after_last_dot(compound_suffix: str) -> str:
    return compound_suffix.rpartition(".")[2]


def iterate_tar_samples(archive: BufferedIOBase) -> Iterator[tuple[str, MembersBySuffix]]:
    """Yield each sample's key and its members by lower-case suffix.

    Hidden files are skipped, as in webdataset. Raises ValueError or tarfile.TarError for an archive that is truncated,
    continues after its end mark, has a member twice, or holds more texts in a sample than captions have.
    """
    key = ""
    members = MembersBySuffix()
    text_bytes = 0
    for name, member in _iterate_members(archive):
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


def may_be_text(file_name: str, num_bytes: int) -> bool:
    """Return whether a file may be a text, by its name and its size.

    ValueError if it is one that is too long for captions. Files whose suffix is not known are read to see whether they
    are texts, if they are short and no images.
    """
    suffix = _part_after_last_dot(file_name.lower())
    if suffix not in CAPTION_SUFFIXES:
        return num_bytes <= MAX_OTHER_BYTES and suffix not in (*IMAGE_SUFFIXES, *EMBEDDING_SUFFIXES)
    if num_bytes > MAX_LINE_BYTES:
        raise ValueError(f"{file_name} is longer than {MAX_LINE_BYTES // 2**20} MiB")
    return True


class _SizeCheckedTarInfo(tarfile.TarInfo):
    """A tarfile header whose sizes are checked before they are used.

    tarfile reads what extends a header at once, and follows sizes below zero backwards.
    """

    def _proc_member(self, tar: Any) -> Any:
        """Read what follows a header, as tarfile does; ValueError for a damaged or sparse one."""
        if self.size < 0 or (self.type[0] in EXTENSIONS and self.size > MAX_EXTENSION_BYTES):
            raise ValueError(f"a header claims {self.size:,} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._proc_gnusparse_10()
        try:
            header = super()._proc_member(tar)  # type: ignore[misc]
        except RecursionError:
            raise ValueError("its headers extend each other without end") from None
        header_bytes = tar.offset - header.offset
        if len(tar.pax_headers) > MAX_GLOBAL_RECORDS or not 0 <= header_bytes < 2**62:
            raise ValueError(f"the headers of {header.name} are damaged")
        return header

    def _proc_gnusparse_10(self, *_: object) -> NoReturn:
        raise ValueError(f"{self.name} is a sparse file, expected a regular file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10


def _iterate_members(file: BufferedIOBase) -> Iterator[tuple[str, SampleMember]]:
    """Yield the name, as valid Unicode, and the member of each file of an archive."""
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_SizeCheckedTarInfo) as tar:
        while (header := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
            if not header.isfile():
                continue
            name = header.name.encode("utf-8", "replace").decode()
            content = _read_member_if_text(tar, header, name)
            yield name, SampleMember(header.offset_data, header.size, content)
        file.seek(tar.offset)  # tarfile's end, which may be a truncated header
        if file.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
            raise ValueError(TRUNCATED)
        # A second archive begins after at most 10 KiB of zeros: what follows more of them is not looked at.
        rest = file.read(CHUNK_BYTES)
        if rest != bytes(len(rest)):
            raise ValueError(
                "the archive continues after its end mark: were archives concatenated?"
            )


def _read_member_if_text(tar: tarfile.TarFile, header: tarfile.TarInfo, name: str) -> bytes:
    """Return the content of a member that may be a text; empty for all others."""
    if not may_be_text(name, header.size):
        return b""
    content = cast("IO[bytes]", tar.extractfile(header)).read()
    if len(content) != header.size:
        raise ValueError(TRUNCATED)
    return content
