"""Images and tar shards, to be broken."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.shards.facts import compute_facts, write_manifest

CAPTIONS = ("a dog and a cat", "two cats", "a bird on a tree", "a red car", "an apple", "a horse beside a house")


def make_image(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Draw a ramp of colours with noise."""
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 40 * (seed % 6))], -1)
    noise = np.random.default_rng(seed).normal(0, 12, ramp.shape)
    return Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8))


def encode_image(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Encode an image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def make_samples(first: int, count: int, width: int = 30) -> dict[str, bytes]:
    """Return members of samples: images of three kinds, some wider than others, and captions."""
    kinds = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"))
    members = {}
    for number in range(first, first + count):
        suffix, kind = kinds[number % 3]
        members[f"{number:05}.{suffix}"] = encode_image(make_image(number, width + number % 20), kind)
        members[f"{number:05}.txt"] = CAPTIONS[number % len(CAPTIONS)].encode()
    return members


def write_shards(folder: Path, *, listed: bool, width: int = 30) -> list[Path]:
    """Write three shards of unequal length, with a manifest where they are to be `listed`; `width` is of images."""
    lengths = (10, 14, 6)
    paths = [
        write_shard(folder / f"{number:05}.tar", make_samples(sum(lengths[:number]), length, width))
        for number, length in enumerate(lengths)
    ]
    if listed:
        write_manifest(folder, {path.name: compute_facts(path) for path in paths})
    return paths
