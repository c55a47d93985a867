"""The contents of a tar shard: its index in the cache, and the facts that the manifest beside it lists.

An index is made once for each shard and mapped into memory by who reads it. A manifest holds the number of samples, the
size and the SHA-256 of each shard of a folder.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec
import pyarrow as pa

from bench.console.console import PROGRAM
from bench.data.captions.choice import FOUND_BY_NAME, CaptionChoice, to_valid_text
from bench.data.captions.files import UNREADABLE, SampleCaptionReader, digest_file_samples
from bench.data.captions.joining import FoundFields
from bench.data.shards.layout import KEPT_SUFFIXES, LayoutCheck
from bench.data.shards.tar_samples import iterate_samples
from bench.environment.files import (
    MAX_BYTES,
    FormatHeader,
    atomic_write,
    decode_json,
    prefix_errors,
    read_limited,
    require_format,
)

INDEX_FORMAT = 4  # raise it when the same shard gives another index
SCHEMA = pa.schema(
    [
        ("key", pa.large_string()),
        ("place", pa.int64()),  # among all samples of the shard
        ("suffix", pa.string()),
        ("offset", pa.int64()),  # of the image, in bytes
        ("size", pa.int64()),
        ("texts", pa.list_(pa.list_(pa.large_string()))),  # captions by field of the choice
    ]
)
METADATA_KEY = b"catlip-bench.shard"
MANIFEST_NAME, MANIFEST_FORMAT = "manifest.json", 1  # raise the format when a field changes its name or its meaning
CHUNK_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class SampleKind:
    """The image or embedding member that is trained on, and whether its sample must have a caption."""

    kind: str  # in the index's name
    noun: str
    suffixes: tuple[str, ...]  # of several in a sample, the first of these
    is_caption_required: bool = True

    @property
    def accepted(self) -> str:
        """The members that are read, for messages."""
        images = f"{self.noun}s are read from {', '.join(f'.{suffix}' for suffix in self.suffixes)}"
        return f"{images}{CAPTIONS_ACCEPTED if self.is_caption_required else ''}"

    @property
    def with_optional_caption(self) -> "SampleKind":
        """The same members, also of samples without a caption."""
        return replace(self, kind=f"{self.kind}-alone", is_caption_required=False)


CAPTIONS_ACCEPTED = ", captions from .txt, or from a text of a JSON object in .json under a name such as caption"
IMAGES = SampleKind("shard", "image", ("jpg", "jpeg", "png", "webp"))
EMBEDDINGS = SampleKind("grids", "embedding", ("npy",))


class ShardContents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an index says of its shard."""

    samples: int
    skipped: dict[str, int]  # samples that cannot be used, by what they lack
    empty_captions: int  # of usable samples
    found: FoundFields  # of captions
    layout: dict[str, int]  # samples and images that are lost, by the arrangement of their members
    suffixes: dict[str, int]  # of members of samples that lack one


def index_path(
    shard: Path, cache_folder: Path, members: SampleKind = IMAGES, listed_sha256: str = "", captions_digest: str = ""
) -> Path:
    """Return where a shard's index lies.

    A shard that was replaced, or is listed with another SHA-256, has another, and so have other fields of captions.
    """
    ending = "".join(f"-{digest[:16]}" for digest in (captions_digest, listed_sha256) if digest)
    return cache_folder / f"{members.kind}{INDEX_FORMAT}-{digest_file_samples(shard)}{ending}.arrow"


def verified_marker_path(shard: Path, index: Path) -> Path:
    """Return where an empty file says that a listed shard's whole content was compared with its manifest.

    It is named by the shard's size and times: whoever writes to a shard changes them. The second time is the kernel's
    own, which no program sets. What a disk spoils without a write is not seen, nor a write within the same few
    milliseconds, in which the clock did not advance.
    """
    found = shard.stat()
    written = sha256(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode()).hexdigest()[:16]
    return index.with_suffix(f".{written}.compared")


def write_index(shard: Path, path: Path, kind: SampleKind = IMAGES, choice: CaptionChoice = FOUND_BY_NAME) -> None:
    """Read a shard and write its index; ValueError names a shard that cannot be read to its end."""
    rows, skipped, count, empty = list[dict[str, object]](), Counter[str](), 0, 0
    reader, layout, none = SampleCaptionReader(choice), LayoutCheck(kind.suffixes), ((),) * len(choice.fields)
    with prefix_errors(shard, UNREADABLE), shard.open("rb") as file:
        for key, members in iterate_samples(file):
            suffix = next((suffix for suffix in kind.suffixes if suffix in members), None)
            texts, flaw = reader.read_members(key, members) if kind.is_caption_required else (none, "")
            image = members.get(suffix or "")
            layout.add(key, members, is_complete=image is not None and not flaw)
            if image is None:
                skipped[f"no {kind.noun}"] += 1
            elif flaw:
                skipped[flaw] += 1
            elif image.size > MAX_BYTES:
                skipped[f"{kind.noun} larger than {MAX_BYTES // 2**20} MiB"] += 1
            else:
                empty += kind.is_caption_required and not any(text.strip() for each in texts for text in each)
                row = (key, count, suffix, image.offset, image.size, [[*map(to_valid_text, each)] for each in texts])
                rows.append(dict(zip(SCHEMA.names, row, strict=True)))
            count += 1
    contents = ShardContents(
        samples=count,
        skipped=dict(sorted(skipped.items())),
        empty_captions=empty,
        found=reader.found,
        layout=layout.counts,
        suffixes=dict(layout.suffixes.most_common(KEPT_SUFFIXES)),
    )
    table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({METADATA_KEY: msgspec.json.encode(contents)})
    with atomic_write(path) as temporary, pa.ipc.new_file(temporary, table.schema) as writer:
        writer.write_table(table)


@cache
def read_index(path: Path) -> tuple[pa.Table, ShardContents]:
    """Return the usable samples of a shard and what it holds in all; its pages are shared by all processes."""
    with prefix_errors(f"{path}: no index of a shard, remove it", UNREADABLE):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return table, decode_json((table.schema.metadata or {}).get(METADATA_KEY, b""), ShardContents)


class ShardFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of a shard."""

    samples: int  # including unusable ones
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of a folder's shards, by file name."""

    format: int = MANIFEST_FORMAT
    shards: dict[str, ShardFacts]


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest, None if there is none; ValueError for an invalid file."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    with prefix_errors(f"{path}: not a manifest of shards"):
        content = read_limited(path)
        remedy = f"remove it, and write it anew with: {PROGRAM} doctor --shards {str(folder)!r}"
        require_format(decode_json(content, FormatHeader), MANIFEST_FORMAT, remedy)
        return decode_json(content, Manifest)


def write_manifest(folder: Path, shards: Mapping[str, ShardFacts]) -> None:
    """Write a folder's manifest, one shard per line."""
    lines = (msgspec.json.encode({name: shards[name]}).decode()[1:-1] for name in sorted(shards))
    with atomic_write(folder / MANIFEST_NAME) as temporary:
        temporary.write_text(
            f'{{"format":{MANIFEST_FORMAT},"shards":{{\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8"
        )


def compute_facts(shard: Path, report: Callable[[int], object] = lambda _: None) -> ShardFacts:
    """Read a whole shard, reporting bytes; ValueError names a shard that cannot be read to its end."""
    digest, size = sha256(), 0
    with prefix_errors(shard, UNREADABLE), shard.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            report(len(chunk))
        file.seek(0)
        return ShardFacts(samples=sum(1 for _ in iterate_samples(file)), bytes=size, sha256=digest.hexdigest())


def describe_difference(listed: ShardFacts, found: ShardFacts) -> str:
    """Describe the first difference between a shard and its manifest; empty if there is none."""
    for field in ("bytes", "samples", "sha256"):
        expected, there = getattr(listed, field), getattr(found, field)
        if expected != there:
            found_text, expected_text = (f"{fact:,}" if field != "sha256" else fact[:12] for fact in (there, expected))
            return f"{field}: {found_text}, the manifest says {expected_text}"
    return ""


def missing_shards(folder: Path, manifest: Manifest, data: str) -> list[str]:
    """Return the shards that the manifest lists, that `data` (a folder or glob) matches and that do not exist."""
    pattern = str(Path(data).absolute())
    requested = [name for name in manifest.shards if Path(data).is_dir() or fnmatch(str(folder / name), pattern)]
    return [name for name in requested if not (folder / name).is_file()]
