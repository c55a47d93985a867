"""Whether the shipped pack is what was shipped."""

import hashlib
import json
from pathlib import Path

PACK = Path(__file__).parent / "pack"
PARTS = ("pretrain", "twemoji", "sweethome3d", "silhouettes")
CACHE = "cache"  # folder of the results that holds decoded pictures


def verify_pack(folder: Path = PACK) -> None:
    """Check every file against the manifest; ValueError names the one that is missing or not what was shipped."""
    for name, expected in json.loads((folder / "manifest.json").read_bytes())["files"].items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing from the pack; bring it back with: git checkout -- {folder}")
        if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != expected["sha256"]:
            raise ValueError(
                f"{path} is corrupted: its sha256 begins with {found[:12]}, the manifest says "
                f"{expected['sha256'][:12]}; bring it back with: git checkout -- {folder}"
            )


def pretrain_shards(folder: Path = PACK) -> list[Path]:
    """Return the shards for pre-training, in the order of the pictures."""
    return sorted((folder / "pretrain").glob("*.tar.gz"))


def pack_digest(folder: Path = PACK) -> str:
    """Return what changes whenever a file of the pack does."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def cache_path(part: str, cache: Path, folder: Path = PACK) -> Path:
    """Return where a part's decoded pictures lie; a changed pack has other files."""
    return cache / f"{part}-{pack_digest(folder)[:16]}.safetensors"
