"""The manifest: every data file of a pack with its SHA-256, its size, and how many pairs or rows it holds."""

import gzip
import hashlib
import json
import lzma
from pathlib import Path

from bench.data.build_pack.shards import count_pairs

FORMAT = 1  # raise it when a field changes its meaning
DATA = ("*.tar.gz", "*.tsv.gz", "*.tsv.xz", "*.webp", "punkt-*.json")


def write_manifest(folder: Path) -> None:
    """Write manifest.json for the data files of the folder."""
    content = {"format": FORMAT, "files": {name: _entry(folder / name) for name in data_files(folder)}}
    text = json.dumps(content, indent=1, sort_keys=True)
    (folder / "manifest.json").write_text(f"{text}\n", encoding="utf-8")


def data_files(folder: Path) -> list[str]:
    """Return the names of the pack's data files, by their paths within it."""
    return sorted(path.relative_to(folder).as_posix() for pattern in DATA for path in folder.rglob(pattern))


def _entry(path: Path) -> dict[str, str | int]:
    content = path.read_bytes()
    entry: dict[str, str | int] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if path.name.endswith(".tar.gz"):
        entry["pairs"] = count_pairs(path)
    elif path.name.endswith(".tsv.gz"):
        entry["rows"] = len(gzip.decompress(content).splitlines())
    elif path.name.endswith(".tsv.xz"):
        entry["rows"] = len(lzma.decompress(content).splitlines())
    return entry
