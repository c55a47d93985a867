"""Tar shards of generated JPEGs: as large as photographs of their size, to time loading where there are no others.

`python -m bench.measure.generated_shards FOLDER IMAGES` writes so many pairs, in shards of 1,024, with the pack's
captions at the lengths of web captions. Shards that exist are kept. No torch here.
"""

import io
import json
import sys
import tarfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.caption_lengths import match_web_lengths
from bench.data.manifest import pretrain_shards
from bench.environment.cores import available_cores
from bench.environment.files import atomic_write
from bench.labels.subwords import encode_caption

SIDE = 512  # pixels, as image-text data sets are often stored
SHARD_IMAGES = 1024
# Standard deviation, of 255: with it JPEGs of 256 to 512 pixels have 35 KiB, the mean.
NOISE, QUALITY = (
    8.0,
    87,
)


def main(folder: str, images: str) -> None:
    """Write shards of `images` pairs into a folder."""
    total, captions = int(images), _web_captions()
    shards = [
        range(first, min(first + SHARD_IMAGES, total)) for first in range(0, total, SHARD_IMAGES)
    ]
    paths = [Path(folder) / f"{numbers.start:08}.tar" for numbers in shards]
    with ProcessPoolExecutor(available_cores()) as pool:
        running = [
            pool.submit(
                write_shard, path, numbers, [captions[number % len(captions)] for number in numbers]
            )
            for path, numbers in zip(paths, shards, strict=True)
            if not path.exists()
        ]
        for one in running:
            one.result()
    size = sum(path.stat().st_size for path in paths)
    print(f"{total:,} JPEGs of {SIDE} pixels a side, {size / 2**30:.2f} GiB in {folder}")


def write_shard(
    path: Path,
    numbers: Iterable[int],
    captions: Iterable[str],
    smallest: int = SIDE,
    largest: int = SIDE,
) -> None:
    """Write a shard of JPEGs whose sides lie between two lengths in pixels; equal numbers have equal images."""
    with atomic_write(path) as temporary, tarfile.open(temporary, "w") as tar:
        for number, caption in zip(numbers, captions, strict=False):
            for suffix, content in (
                ("jpg", make_jpeg(number, smallest, largest)),
                ("txt", caption.encode()),
            ):
                member = tarfile.TarInfo(f"{number:08}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def make_jpeg(seed: int, smallest: int = SIDE, largest: int = SIDE) -> bytes:
    """Return a JPEG of colour ramps with noise, encoded."""
    draw = np.random.default_rng(seed)
    width, height = draw.integers(smallest, largest + 1, 2)
    y, x = np.ogrid[0:height, 0:width]
    pixels = draw.standard_normal((height, width, 3), dtype=np.float32) * NOISE
    for channel, ramp in enumerate((x / width, y / height, (x + y) / (width + height))):
        pixels[..., channel] += ramp * 255
    pixels = pixels.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=QUALITY)
    return file.getvalue()


def _web_captions() -> tuple[str, ...]:
    """Return the pack's captions at the lengths of web captions."""
    captions = []
    for shard in pretrain_shards():
        with tarfile.open(shard, "r:gz") as tar:
            texts = (tar.extractfile(member) for member in tar if member.name.endswith(".json"))
            captions += [json.load(text)["caption"] for text in texts if text is not None]
    return match_web_lengths(captions, lambda text: len(encode_caption(text)), seed=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
