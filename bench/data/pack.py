"""The shipped pack: image-text pairs, verified and decoded once, then read from a cache file."""

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.data.manifest import PACK, PARTS, cache_path, pack_cache, pretrain_shards, verify_pack
from bench.environment.files import atomic_write

SIDE = 64  # pixels


@dataclass(frozen=True, slots=True)
class PackImages:
    """Images in memory. Colour is premultiplied by alpha, so that resampling leaves no fringes."""

    pixels: UInt8[Tensor, "images 4 64 64"]
    captions: tuple[str, ...]
    classes: tuple[dict[str, str], ...]  # class by name of the classification
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)


def load_pack_images(part: str, cache: Path, folder: Path = PACK) -> PackImages:
    """Return the images of a part ("pretrain", or a transfer shard's name), from the cache if possible.

    A changed pack, or another decoding of it, has another cache file. The first call verifies the pack.
    """
    path = cache_path(part, cache, folder)
    if not path.is_file():
        verify_pack(folder)
        images = _decode_part(part, folder)
        texts = {"captions": images.captions, "classes": images.classes, "keys": images.keys}
        with atomic_write(path) as temporary:
            save_file({"pixels": images.pixels}, temporary, metadata={"texts": json.dumps(texts)})
    with safe_open(path, framework="pt") as file:
        texts = json.loads(file.metadata()["texts"])
    return PackImages(
        load_file(path)["pixels"], **{name: tuple(values) for name, values in texts.items()}
    )


def _decode_part(part: str, folder: Path) -> PackImages:
    shards = (
        pretrain_shards(folder) if part == "pretrain" else [folder / "transfer" / f"{part}.tar.gz"]
    )
    keys, pixels, texts = zip(
        *(pair for shard in shards for pair in _read_pairs(shard)), strict=True
    )
    captions, classes = (
        (text["caption"] for text in texts),
        (text.get("label", {}) for text in texts),
    )
    return PackImages(torch.from_numpy(np.stack(pixels)), tuple(captions), tuple(classes), keys)


class _ImageWithText(NamedTuple):
    """An image of a shard, and the JSON object that follows it."""

    key: str
    pixels: UInt8[np.ndarray, "4 64 64"]
    text: dict[str, Any]


def _read_pairs(shard: Path) -> Iterator[_ImageWithText]:
    """Yield the pairs in the shard's order."""
    with tarfile.open(shard, "r:gz") as tar:
        members = iter(tar)
        for member in members:
            key, _, _ = member.name.rpartition(".")
            # before the next header: seeking back would decompress all again
            pixels = _decode_pixels(_read_member(tar, member))
            text_member = next(members)
            assert text_member.name == f"{key}.json", (
                f"{shard}: {member.name} is followed by {text_member.name}"
            )
            yield _ImageWithText(key, pixels, json.loads(_read_member(tar, text_member)))


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, f"{member.name} is not a file"
    return file.read()


def _decode_pixels(encoded: bytes) -> UInt8[np.ndarray, "4 64 64"]:
    with Image.open(io.BytesIO(encoded)) as image:
        rgba = image.convert("RGBA")
    if rgba.size != (SIDE, SIDE):
        rgba = rgba.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(rgba.convert("RGBa")).transpose(2, 0, 1).copy()


def main() -> None:
    """Decode every part into the user's cache, so that no run has to: `python -m bench.data.pack`."""
    for part in PARTS:
        load_pack_images(part, pack_cache())


if __name__ == "__main__":
    main()
