"""The facts of tar shards that the manifest beside them lists: number of samples, size and SHA-256."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

import msgspec

from bench.console.console import PROGRAM
from bench.data.captions.files import UNREADABLE
from bench.data.shards.tar_samples import iterate_samples
from bench.environment.files import FormatHeader, atomic_write, decode_json, prefix_errors, read_limited, require_format

MANIFEST_NAME, MANIFEST_FORMAT = "manifest.json", 1  # raise the format when a field changes its name or its meaning
CHUNK_BYTES = 2**22


def verified_marker_path(shard: Path, index: Path) -> Path:
    """Return where an empty file says that a listed shard's whole content was compared with its manifest.

    It is named by the shard's size and times: whoever writes to a shard changes them. The second time is the kernel's
    own, which no program sets. What a disk spoils without a write is not seen, nor a write within the same few
    milliseconds, in which the clock did not advance.
    """
    found = shard.stat()
    written = sha256(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode()).hexdigest()[:16]
    return index.with_suffix(f".{written}.compared")


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
