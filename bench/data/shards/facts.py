"""The facts of tar shards that the manifest beside them lists: number of samples, size and SHA-256."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

import msgspec

from bench.console.console import PROGRAM
from bench.data.captions.files import UNREADABLE
from bench.data.shards.tar_samples import iterate_samples
from bench.environment.files import (
    FormatHeader,
    atomic_write,
    decode_json,
    prefix_errors,
    read_limited,
    require_format,
)

# Raise the format when a field changes its name or its meaning.
MANIFEST_NAME, MANIFEST_FORMAT = (
    "manifest.json",
    1,
)
CHUNK_BYTES = 2**22


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
    lines = [msgspec.json.encode({name: shards[name]}).decode()[1:-1] for name in sorted(shards)]
    content = ",\n".join(lines)
    with atomic_write(folder / MANIFEST_NAME) as temporary:
        temporary.write_text(
            f'{{"format":{MANIFEST_FORMAT},"shards":{{\n{content}\n}}}}\n', encoding="utf-8"
        )


def compute_facts(shard: Path, report: Callable[[int], object] = lambda _: None) -> ShardFacts:
    """Read a whole shard, reporting bytes; ValueError names a shard that cannot be read to its end."""
    digest = sha256()
    with prefix_errors(shard, UNREADABLE), shard.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            report(len(chunk))
        size = file.tell()
        file.seek(0)
        samples = sum(1 for _ in iterate_samples(file))
    return ShardFacts(samples=samples, bytes=size, sha256=digest.hexdigest())


def describe_difference(listed: ShardFacts, found: ShardFacts) -> str:
    """Describe the first difference between a shard and its manifest; empty if there is none."""
    if found.bytes != listed.bytes:
        return f"bytes: {found.bytes:,}, the manifest says {listed.bytes:,}"
    if found.samples != listed.samples:
        return f"samples: {found.samples:,}, the manifest says {listed.samples:,}"
    if found.sha256 != listed.sha256:
        return f"sha256: {found.sha256[:12]}, the manifest says {listed.sha256[:12]}"
    return ""


def missing_shards(folder: Path, manifest: Manifest, data: str) -> list[str]:
    """Return the shards that the manifest lists, that `data` (a folder or glob) matches and that do not exist."""
    pattern = str(Path(data).absolute())
    requested = [
        name
        for name in manifest.shards
        if Path(data).is_dir() or fnmatch(str(folder / name), pattern)
    ]
    return [name for name in requested if not (folder / name).is_file()]
