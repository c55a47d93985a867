"""Tar shards, to be broken."""

from pathlib import Path

from tests.data.shards import CAPTIONS, encode_image, make_image, write_shard


def make_samples(first: int, count: int, width: int = 30) -> dict[str, bytes]:
    """Return members of samples: images of three kinds, some wider than others, and captions."""
    kinds = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"))
    members = {}
    for number in range(first, first + count):
        suffix, kind = kinds[number % 3]
        members[f"{number:05}.{suffix}"] = encode_image(
            make_image(number, width + number % 20), kind
        )
        members[f"{number:05}.txt"] = CAPTIONS[number % len(CAPTIONS)].encode()
    return members


def write_shards(folder: Path, *, width: int = 30) -> list[Path]:
    """Write three shards of unequal length; `width` is of images."""
    lengths = (10, 14, 6)
    return [
        write_shard(folder / f"{number:05}.tar", make_samples(sum(lengths[:number]), length, width))
        for number, length in enumerate(lengths)
    ]
