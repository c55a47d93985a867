"""The shipped pack: image-text pairs, verified and decoded once, then read from a cache file."""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from bench.data.manifest import (
    PACK,
    PARTS,
    decoded_part_path,
    pretrain_shards,
    read_shard_members,
    user_cache_folder,
    verify_pack,
)
from bench.environment.files import atomic_write

SIDE = 64  # pixels


@dataclass(frozen=True, slots=True)
class PackImages:
    """Images in memory. Colour is premultiplied by alpha, so that resampling leaves no fringes."""

    premultiplied_rgba: UInt8[Tensor, "images 4 64 64"]
    captions: tuple[str, ...]
    classes: tuple[dict[str, str], ...]  # of an image: its class by the name of the classification
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)


def load_pack_images(part: str, cache_folder: Path, pack: Path = PACK) -> PackImages:
    """Return the images of a part ("pretrain", or a transfer shard's name), from the cache if they are there.

    A changed pack, or another decoding of it, has another cache file. The first call verifies the pack.
    """
    path = decoded_part_path(part, cache_folder, pack)
    if not path.is_file():
        verify_pack(pack)
        images = _decode_pack_part(part, pack)
        texts = {"captions": images.captions, "classes": images.classes, "keys": images.keys}
        with atomic_write(path) as temporary:
            # `save_file` would let only the user read it.
            temporary.write_bytes(
                save({"pixels": images.premultiplied_rgba}, metadata={"texts": json.dumps(texts)})
            )
    with safe_open(path, framework="pt") as file:
        texts = json.loads(file.metadata()["texts"])
    return PackImages(
        load_file(path)["pixels"], **{name: tuple(values) for name, values in texts.items()}
    )


def _decode_pack_part(part: str, pack: Path) -> PackImages:
    """Decode the images of a part in the order of its shards."""
    shards = [pack / f"transfer/{part}.tar.gz"]
    if part == "pretrain":
        shards = pretrain_shards(pack)
    keys = []
    pixels = []
    texts = []
    for shard in shards:
        for name, content in read_shard_members(shard).items():
            key, _, suffix = name.rpartition(".")
            if suffix == "json":
                texts.append(json.loads(content))
            else:
                keys.append(key)
                pixels.append(_decode_to_premultiplied_rgba(content))
    captions = tuple(text["caption"] for text in texts)
    classes = tuple(text.get("label", {}) for text in texts)
    return PackImages(torch.from_numpy(np.stack(pixels)), captions, classes, tuple(keys))


def _decode_to_premultiplied_rgba(encoded: bytes) -> UInt8[np.ndarray, "4 64 64"]:
    with Image.open(io.BytesIO(encoded)) as image:
        rgba = image.convert("RGBA")
    if rgba.size != (SIDE, SIDE):
        rgba = rgba.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(rgba.convert("RGBa")).transpose(2, 0, 1).copy()


def decode_parts_into_user_cache(parts: Sequence[str] = PARTS) -> None:
    """Decode parts into the user's cache, by default all: `python -m bench.data.pack [PART ...]`."""
    for part in parts:
        load_pack_images(part, user_cache_folder())


if __name__ == "__main__":
    decode_parts_into_user_cache(sys.argv[1:] or PARTS)
