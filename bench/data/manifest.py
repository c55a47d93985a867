"""The shipped pack's manifest and files."""

import hashlib
import json
from pathlib import Path

PACK = Path(__file__).parent / "pack"
PARTS = ("pretrain", "twemoji", "sweethome3d", "silhouettes")
CACHE = "cache"  # folder of decoded images, below the results folder


def verify_pack(folder: Path = PACK) -> None:
    """Check every file against the manifest; ValueError names a missing or corrupted file."""
    remedy = f"bring it back with: git checkout -- {folder}"
    for name, expected in json.loads((folder / "manifest.json").read_bytes())["files"].items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing from the pack; {remedy}")
        if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != expected["sha256"]:
            raise ValueError(
                f"{path} is corrupted: its sha256 begins with {found[:12]}, the manifest says "
                f"{expected['sha256'][:12]}; {remedy}"
            )


def pretrain_shards(folder: Path = PACK) -> list[Path]:
    """Return the shards for pre-training, in the order of their images."""
    return sorted((folder / "pretrain").glob("*.tar.gz"))


def pack_digest(folder: Path = PACK) -> str:
    """Return a digest that changes with any file of the pack."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def cache_path(part: str, cache: Path, folder: Path = PACK) -> Path:
    """Return the cache file of a part's decoded images, named by the pack's digest."""
    return cache / f"{part}-{pack_digest(folder)[:16]}.safetensors"
