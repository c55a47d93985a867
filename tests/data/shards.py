"""Tar shards as webdataset's writer and img2dataset leave them."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.captions.choice import CaptionChoice
from bench.data.sample_index import IndexedSamples
from bench.data.sources.tar_shards import TarShards
from bench.interfaces.data_source import SampleFieldsRequest

CAPTIONS = (
    "a dog and a cat",
    "two cats",
    "a bird on a tree",
    "a red car",
    "an apple",
    "a horse beside a house",
)


def make_image(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 40 * (seed % 6))], -1)
    return Image.fromarray((ramp + draw.normal(0, 12, ramp.shape)).clip(0, 255).astype(np.uint8))


def encode_image(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_shard(
    path: Path, members: Mapping[str, bytes], tar_format: int = tarfile.PAX_FORMAT
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members, tar_format))
    return path


def tar_bytes(members: Mapping[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def webdataset_members(first: int, count: int) -> dict[str, bytes]:
    """Image and text, as in its documentation; images of several kinds."""
    kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}
    members = {}
    for number in range(first, first + count):
        suffix, kind = [*kinds.items()][number % 4]
        members[f"train/{number:04}.{suffix}"] = encode_image(
            make_image(number, 30 + number, 40), kind
        )
        members[f"train/{number:04}.txt"] = CAPTIONS[number % 6].encode()
    return members


def img2dataset_members(first: int, count: int) -> dict[str, bytes]:
    """Image, JSON with the caption among other fields, and text."""
    members = {}
    for number in range(first, first + count):
        key, caption = f"{number:09}", CAPTIONS[number % 6]
        members[f"{key}.jpg"] = encode_image(make_image(number, 40, 30 + number))
        members[f"{key}.json"] = json.dumps(
            {"caption": caption, "url": "x", "key": key, "status": "success"}
        ).encode()
        if number % 2:
            members[f"{key}.txt"] = caption.encode()
    return members


def write_shards(folder: Path) -> Path:
    """Three shards with 36 samples, of which 33 can be used."""
    first = {"none.txt": b"no image", **webdataset_members(0, 12)}
    second = {
        **img2dataset_members(12, 6),
        "lost.jpg": encode_image(make_image(3)),
        **img2dataset_members(18, 6),
    }
    third = {
        **img2dataset_members(24, 4),
        "null.png": b"",
        "null.json": b'{"caption": null}',
        **webdataset_members(28, 5),
    }
    write_shard(folder / "00000.tar", first, tarfile.USTAR_FORMAT)
    write_shard(folder / "00001.tar", second, tarfile.GNU_FORMAT)
    write_shard(folder / "00002.tar", third)
    return folder


def open_shards(data: str, cache: Path) -> IndexedSamples:
    return TarShards().open(data, SampleFieldsRequest(cache=cache, captions=CaptionChoice()))
