"""What a tar shard holds and where: made once for each shard, kept in the cache, mapped into memory by who reads it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec
import pyarrow as pa

from bench.data.captions.batches import MAX_CAPTION_BYTES, NULL, TOO_LONG
from bench.data.captions.captions import name_errors
from bench.data.captions.shards import digest_file
from bench.data.captions.tar_file import SampleCaptions
from bench.data.shards.tar_samples import Member, iterate_samples
from bench.environment.files import atomic_write

FORMAT = 1  # raise it when the same shard gives another index
SCHEMA = pa.schema(
    [
        ("key", pa.large_string()),
        ("place", pa.int64()),  # among all samples of the shard
        ("suffix", pa.string()),
        ("offset", pa.int64()),  # of the image, in bytes
        ("size", pa.int64()),
        ("caption", pa.large_string()),
    ]
)
META = b"catlip-bench.shard"


@dataclass(frozen=True, slots=True)
class MemberKind:
    """What of a sample is trained on."""

    kind: str  # in the index's name
    noun: str
    suffixes: tuple[str, ...]  # of several in a sample, the first of these


IMAGES = MemberKind("shard", "image", ("jpg", "jpeg", "png", "webp"))
EMBEDDINGS = MemberKind("grids", "embedding", ("npy",))


class ShardContents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an index says of its shard."""

    samples: int
    skipped: dict[str, int]  # samples that cannot be used, by what they lack


def index_path(shard: Path, cache_folder: Path, members: MemberKind = IMAGES, listed: str = "") -> Path:
    """Return where a shard's index lies; a shard that was replaced has another.

    So has one that a manifest lists with another sha256, `listed`.
    """
    ending = f"-{listed[:16]}" if listed else ""
    return cache_folder / f"{members.kind}{FORMAT}-{digest_file(shard)}{ending}.arrow"


def verified_marker_path(shard: Path, index: Path) -> Path:
    """Return where an empty file says that a listed shard's whole content was compared with its manifest.

    It is named by the shard's size and times: whoever writes to a shard changes them. The second time is the kernel's
    own, which no program sets. What a disk spoils without a write is not seen, nor a write within the same few
    milliseconds, in which the clock stood still.
    """
    found = shard.stat()
    written = sha256(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode()).hexdigest()[:16]
    return index.with_suffix(f".{written}.compared")


def write_index(shard: Path, path: Path, trained_on: MemberKind = IMAGES) -> None:
    """Read a shard and write its index; ValueError names a shard that cannot be read to its end."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    captions, skipped, count = SampleCaptions(None), Counter[str](), 0
    with name_errors(shard), shard.open("rb") as file:
        for key, members in iterate_samples(file):
            suffix = next((suffix for suffix in trained_on.suffixes if suffix in members), None)
            caption, flaw = _caption(captions, members)
            if suffix is None or caption is None:
                skipped[f"no {trained_on.noun}" if suffix is None else flaw] += 1
            else:
                image = members[suffix]
                row = (key, count, suffix, image.offset, image.size, caption.decode("utf-8", "replace"))
                for values, value in zip(columns.values(), row, strict=True):
                    values.append(value)
            count += 1
    meta = msgspec.json.encode(ShardContents(samples=count, skipped=dict(sorted(skipped.items()))))
    table = pa.table(columns, SCHEMA).replace_schema_metadata({META: meta})
    with atomic_write(path) as temporary, pa.ipc.new_file(temporary, table.schema) as writer:
        writer.write_table(table)


@cache
def read_index(path: Path) -> tuple[pa.Table, ShardContents]:
    """Return the usable samples of a shard and what it holds in all; its pages are shared by all processes."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return table, msgspec.json.decode(table.schema.metadata[META], type=ShardContents)


def _caption(captions: SampleCaptions, members: Mapping[str, Member]) -> tuple[bytes | None, str]:
    """Return a sample's caption, or why it has none that can be used."""
    caption, flaw = captions.caption_of(members)
    if caption is None:
        return None, flaw or NULL
    return (None, TOO_LONG) if len(caption) > MAX_CAPTION_BYTES else (caption, "")
