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


def verify_pack(pack: Path = PACK) -> None:
    """Check every file against the manifest; ValueError names a missing or corrupted file."""
    manifest = json.loads((pack / "manifest.json").read_bytes())
    for name, listed in manifest["files"].items():
        path = pack / name
        digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        if digest != listed["sha256"]:
            raise ValueError(
                f"{path} is missing or corrupted; bring it back with: git checkout -- {pack}"
            )


def pretrain_shards(pack: Path = PACK) -> list[Path]:
    """Return the shards for pre-training, in the order of their images."""
    return sorted((pack / "pretrain").glob("*.tar.gz"))


def read_shard_members(shard: Path) -> dict[str, bytes]:
    """Return the members of a shard by name: images, each followed by its JSON object."""
    with tarfile.open(shard, "r:gz") as tar:
        return {member.name: cast("IO[bytes]", tar.extractfile(member)).read() for member in tar}


def user_cache_folder() -> Path:
    """Return the folder of the user's cache, which all results folders share: of the decoded pack and of indexes.

    ValueError if the user has no home.
    """
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(folder).expanduser() / "catlip-bench"
    except RuntimeError:
        raise ValueError(
            f"there is no home for {folder}: name a folder in XDG_CACHE_HOME"
        ) from None


def decoded_part_path(part: str, cache_folder: Path, pack: Path = PACK) -> Path:
    """Return the cache file of the decoded images of a part, named by a digest of the pack and of its decoding."""
    decoding = Path(__file__).with_name("pack.py").read_bytes() + version("pillow").encode()
    digest = sha256((pack / "manifest.json").read_bytes() + decoding).hexdigest()
    return cache_folder / f"{part}-{digest[:16]}.safetensors"
