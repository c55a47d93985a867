"""The shipped pack's manifest and files."""

import json
import os
import tarfile
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import IO, cast

PACK = Path(__file__).parent / "pack"
PARTS = ("pretrain", "twemoji")  # that are decoded; no task shows the other shards of `transfer`
CACHE = "cache"  # folder of indexes of shards and of tasks' images, below the results folder


def verify_pack(folder: Path = PACK) -> None:
    """Check every file against the manifest; ValueError names a missing or corrupted file."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, listed in manifest["files"].items():
        path = folder / name
        is_intact = path.is_file() and sha256(path.read_bytes()).hexdigest() == listed["sha256"]
        if not is_intact:
            raise ValueError(
                f"{path} is missing or corrupted; bring it back with: git checkout -- {folder}"
            )


def pretrain_shards(folder: Path = PACK) -> list[Path]:
    """Return the shards for pre-training, in the order of their images."""
    return sorted((folder / "pretrain").glob("*.tar.gz"))


def read_shard_members(shard: Path) -> dict[str, bytes]:
    """Return the members of a shard by name: images, each followed by its JSON object."""
    with tarfile.open(shard, "r:gz") as tar:
        return {member.name: cast("IO[bytes]", tar.extractfile(member)).read() for member in tar}


def user_cache_folder() -> Path:
    """Return the folder of the pack's decoded images in the user's cache; all results folders share it.

    ValueError if the user has no home.
    """
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(folder).expanduser() / "catlip-bench"
    except RuntimeError:
        raise ValueError(
            f"there is no home for {folder}: name a folder in XDG_CACHE_HOME"
        ) from None


def decoded_part_path(part: str, cache: Path, folder: Path = PACK) -> Path:
    """Return the cache file of a part's decoded images, named by a digest of the pack and of its decoding."""
    decoding = Path(__file__).with_name("pack.py").read_bytes() + version("pillow").encode()
    digest = sha256((folder / "manifest.json").read_bytes() + decoding).hexdigest()
    return cache / f"{part}-{digest[:16]}.safetensors"
