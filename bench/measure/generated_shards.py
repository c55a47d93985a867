"""Tar shards of generated JPEGs: as large as photographs of their size, to time loading where there are no others.

`python -m bench.measure.generated_shards FOLDER IMAGES` writes so many pairs, in shards of 1,024, with the pack's
captions at the lengths of web captions. Shards that exist are kept; a folder with other shards is refused.
"""

import io
import sys
import tarfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.caption_lengths import rewrite_captions_to_web_lengths
from bench.data.manifest import user_cache_folder
from bench.data.pack import load_pack_images
from bench.environment.cores import count_available_cores
from bench.environment.files import atomic_write
from bench.labels.subwords import encode_caption_without_start_and_end

SIDE = 512  # pixels, as image-text data sets are often stored
IMAGES_PER_SHARD = 1024
# Standard deviation, of 255: with it JPEGs of 256 to 512 pixels have 35 KiB, the mean.
NOISE = 8.0
QUALITY = 87


def main(folder: Path, num_images: int) -> None:
    """Write shards with so many image-caption pairs into a folder; ValueError if it holds other shards."""
    ending = f"-of-{num_images:08}.tar"
    for path in folder.glob("*.tar"):
        if not path.name.endswith(ending):
            raise ValueError(f"{path} is not of {num_images} images: name another folder")
    captions = rewrite_captions_to_web_lengths(
        load_pack_images("pretrain", user_cache_folder()).captions,
        lambda text: len(encode_caption_without_start_and_end(text)),
        seed=0,
    )
    with ProcessPoolExecutor(count_available_cores()) as pool:
        writes = []
        for first in range(0, num_images, IMAGES_PER_SHARD):
            path = folder / f"{first:08}{ending}"
            if not path.exists():
                seeds = range(first, min(first + IMAGES_PER_SHARD, num_images))
                texts = [captions[seed % len(captions)] for seed in seeds]
                writes.append(pool.submit(write_shard, path, seeds, texts))
        for write in writes:
            write.result()
    print(f"{num_images} JPEGs of {SIDE} pixels a side in {folder}")


def write_shard(
    path: Path, seeds: Iterable[int], captions: Iterable[str], side: int = SIDE
) -> None:
    """Write a tar file of square JPEGs of `side` pixels and their captions; equal seeds have equal images."""
    with atomic_write(path) as temporary, tarfile.open(temporary, "w") as tar:
        for seed, caption in zip(seeds, captions, strict=True):
            _add_file_to_tar(tar, f"{seed:08}.jpg", make_photo_sized_jpeg(seed, side))
            _add_file_to_tar(tar, f"{seed:08}.txt", caption.encode())


def _add_file_to_tar(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def make_photo_sized_jpeg(seed: int, side: int = SIDE) -> bytes:
    """Return an encoded JPEG of colour ramps with noise, with `side` pixels per side."""
    draw = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, side, dtype=np.float32)
    x, y = np.meshgrid(ramp, ramp)
    ramps = np.stack([x, y, (x + y) / 2], axis=-1)
    noise = NOISE * draw.standard_normal(ramps.shape, dtype=np.float32)
    pixels = (255 * ramps + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
