"""The manifest beside tar shards: number of samples, size and SHA-256 of each."""

import hashlib
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path

import msgspec

from bench.data.captions.captions import name_errors
from bench.data.shards.tar_samples import iterate_samples
from bench.environment.files import atomic_write, decode_json, read_limited

MANIFEST_NAME = "manifest.json"
CHUNK = 2**22  # bytes


class ShardFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of a shard."""

    samples: int  # including unusable ones
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts of a folder's shards, by file name."""

    format: int = 1
    shards: dict[str, ShardFacts]


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest, None if there is none; ValueError for an invalid file."""
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None
    try:
        return decode_json(read_limited(path), Manifest)
    except ValueError as error:
        raise ValueError(f"{path}: not a manifest of shards: {error}") from None


def write_manifest(folder: Path, shards: Mapping[str, ShardFacts]) -> None:
    """Write a folder's manifest, one shard per line."""
    lines = (msgspec.json.encode({name: shards[name]}).decode()[1:-1] for name in sorted(shards))
    with atomic_write(folder / MANIFEST_NAME) as temporary:
        temporary.write_text('{"format":1,"shards":{\n' + ",\n".join(lines) + "\n}}\n", encoding="utf-8")


def compute_facts(shard: Path, report: Callable[[int], object] = lambda _: None) -> ShardFacts:
    """Read a whole shard, reporting bytes; ValueError names a shard that cannot be read to its end."""
    digest, size = hashlib.sha256(), 0
    with name_errors(shard), shard.open("rb") as file:
        while chunk := file.read(CHUNK):
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
    asked = [name for name in manifest.shards if Path(data).is_dir() or fnmatch(str(folder / name), pattern)]
    return [name for name in asked if not (folder / name).is_file()]
