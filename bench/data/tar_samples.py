"""Samples of a tar shard as webdataset and img2dataset write it, read with tarfile.

Consecutive members whose names are equal up to the first dot of the file name form a sample; what follows the dot is a
member's suffix, as "jpg" or "syn.json". Names are compared and shown, and never used as paths.
"""

import tarfile
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import IO, Any, cast

from bench.data.columns import part_after_last_dot
from bench.data.text_tables import MAX_LINE_BYTES, decode_json_object, decode_utf8_without_bom

BLOCK_BYTES = tarfile.BLOCKSIZE
CHUNK_BYTES = 2**20
TRUNCATED = "the archive is truncated; copy or download it again"
EXTENSIONS = (*b"LKxgX",)  # types of headers that extend the next ones: long names, and pax records
MAX_EXTENSION_BYTES = 2**16  # of one such header
MAX_OFFSET = 2**62  # of a member in an archive, in bytes
MAX_TEXT_BYTES = 4 * MAX_LINE_BYTES  # of all texts of a sample


@dataclass(frozen=True, slots=True)
class SampleMember:
    """A file of a sample."""

    offset: int  # of the content in the archive, in bytes
    size: int  # bytes
    text_content: bytes  # empty for an image, and all other files that are no text


MembersBySuffix = dict[str, SampleMember]


def find_image_member(
    members: MembersBySuffix, preferred_suffixes: Sequence[str]
) -> SampleMember | None:
    """Return a sample's image: the member with the first of the suffixes, else one with a compound one (image.jpg)."""
    for suffix in preferred_suffixes:
        if suffix in members:
            return members[suffix]
    for suffix, member in members.items():
        if part_after_last_dot(suffix) in preferred_suffixes:
            return member
    return None


def decode_texts_and_json_objects(
    members: MembersBySuffix, suffixes_to_read: Container[str]
) -> dict[str, object]:
    """Return a sample's texts and JSON objects by suffix; all other members are left out."""
    values = dict[str, object]()
    for suffix, member in members.items():
        kind = part_after_last_dot(suffix)
        if kind == "json":
            fields = decode_json_object(member.text_content)
            if fields is not None:
                values[suffix] = fields
        elif kind in suffixes_to_read:
            values[suffix] = decode_utf8_without_bom(member.text_content)
    return values


def index_tar_samples(
    archive: BufferedIOBase, suffixes_to_read: Container[str] = ()
) -> Iterator[tuple[str, MembersBySuffix]]:
    """Yield each sample's key and its members by lower-case suffix; of all but texts, only offset and size.

    Hidden files are skipped, as in webdataset. Raises ValueError or tarfile.TarError for an archive that is truncated,
    continues after its end mark, has a member twice, or holds more texts in a sample than captions have.
    """
    key = ""
    members = MembersBySuffix()
    text_bytes = 0
    for name, member in _iterate_members(archive, suffixes_to_read):
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
        text_bytes += len(member.text_content)
        if text_bytes > MAX_TEXT_BYTES:
            raise ValueError(f"the texts of {key} are longer than {MAX_TEXT_BYTES // 2**20} MiB")
    if members:
        yield key, members


def is_text(file_name: str, num_bytes: int, suffixes_to_read: Container[str]) -> bool:
    """Return whether a file is a text, by the part of its name after the last dot; ValueError if it is too long."""
    if part_after_last_dot(file_name.lower()) not in suffixes_to_read:
        return False
    if num_bytes > MAX_LINE_BYTES:
        raise ValueError(f"{file_name} is longer than {MAX_LINE_BYTES // 2**20} MiB")
    return True


class _SizeCheckedTarInfo(tarfile.TarInfo):
    """A tarfile header whose sizes are checked before they are used.

    tarfile reads what extends a header at once, and follows sizes below zero backwards.
    """

    def _proc_member(self, tar: Any) -> Any:
        """Read what follows a header, as tarfile does; ValueError for a wrong size."""
        if self.size < 0 or (self.type[0] in EXTENSIONS and self.size > MAX_EXTENSION_BYTES):
            raise ValueError(f"a header claims {self.size:,} bytes")
        header = super()._proc_member(tar)  # type: ignore[misc]
        if not header.offset < tar.offset < MAX_OFFSET:
            raise ValueError(f"the headers of {header.name} are damaged")
        return header


def _iterate_members(
    file: BufferedIOBase, suffixes_to_read: Container[str]
) -> Iterator[tuple[str, SampleMember]]:
    """Yield the name, as valid Unicode, and the member of each file of an archive."""
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_SizeCheckedTarInfo) as tar:
        while (header := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header
            if not header.isfile():
                continue
            name = header.name.encode("utf-8", "replace").decode()
            if header.issparse():
                raise ValueError(f"{name} is a sparse file, expected a regular file")
            content = b""
            if is_text(name, header.size, suffixes_to_read):
                content = cast("IO[bytes]", tar.extractfile(header)).read()
                if len(content) != header.size:
                    raise ValueError(TRUNCATED)
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
