"""The images of a random sample: formats, sizes in pixels, flaws, equal images and thumbnails."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.console.progress import show_progress
from bench.data.decoding import UnusableImageError, decode_image
from bench.interfaces.data_source import Samples

THUMBNAIL_SIDE = 192  # pixels
MAX_COMPARED, MAX_COMPARED_BYTES = 100_000, 2**30  # images, and their bytes: more are not all read to find copies
DECODED, UNKNOWN = "decoded", "unknown"
# The format of a file by the bytes at a place.
SIGNATURES = (
    ("JPEG", 0, b"\xff\xd8"),
    ("PNG", 0, b"\x89PNG"),
    ("WebP", 8, b"WEBP"),
    ("GIF", 0, b"GIF8"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("AVIF", 4, b"ftypavif"),
    ("HEIC", 4, b"ftypheic"),
    ("BMP", 0, b"BM"),
)


@dataclass(frozen=True, slots=True)
class SampledImage:
    """An image as it was read: one that is usable has a size in pixels, another has a flaw."""

    row: int
    kind: str  # its format
    num_bytes: int
    digest: bytes
    width: int = 0
    height: int = 0
    flaw: str = ""
    thumbnail: bytes = b""  # WebP, of images that are shown


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Exact copies among images: those that are equal to an earlier one, byte for byte."""

    copies: int
    images: int  # that were compared


class ImageReader:
    """Reads the images of samples: files, or decoded ones from memory."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._pixels = samples.pixels if samples.is_decoded else None

    def read(self, row: int) -> bytes:
        """Return an image's file, or its pixels in memory; ValueError or OSError if it cannot be read."""
        return self._samples.image(row) if self._pixels is None else self._pixels[row].numpy().tobytes()

    def inspect(self, row: int, *, is_shown: bool) -> SampledImage:
        """Decode an image; a thumbnail is made if it is shown."""
        content = self.read(row)
        kind = find_format(content) if self._pixels is None else DECODED
        digest = _digest(content)
        try:
            rgb = self._decode(row, content)
        except UnusableImageError as error:
            return SampledImage(row, kind, len(content), digest, flaw=str(error))
        height, width, _ = rgb.shape
        thumbnail = _make_thumbnail(rgb) if is_shown else b""
        return SampledImage(row, kind, len(content), digest, width, height, thumbnail=thumbnail)

    def _decode(self, row: int, content: bytes) -> npt.NDArray[np.uint8]:
        """Return [height, width, 3]; images in memory are premultiplied by alpha, and put on white."""
        if self._pixels is None:
            return decode_image(content).permute(1, 2, 0).numpy()
        pixels = self._pixels[row].permute(1, 2, 0).numpy()
        on_white: npt.NDArray[np.uint8] = pixels[..., :3] + (255 - pixels[..., 3:])
        return on_white


def inspect_images(reader: ImageReader, rows: Sequence[int], num_shown: int) -> list[SampledImage]:
    """Decode the images of rows, of which the first ones are shown."""
    shown = set(rows[:num_shown])
    ordered = show_progress(sorted(rows), len(rows), "decoding images", "images")  # in the order of the files
    found = {row: reader.inspect(row, is_shown=row in shown) for row in ordered}
    return [found[row] for row in rows]


def find_duplicates(reader: ImageReader, sampled: Sequence[SampledImage], total: int) -> Duplicates:
    """Compare all images if these are few and small enough to be read, else those of the sample."""
    digests = [one.digest for one in sampled]
    expected_bytes = total * sum(one.num_bytes for one in sampled) / len(sampled)
    if len(sampled) < total <= MAX_COMPARED and expected_bytes <= MAX_COMPARED_BYTES:
        rows = show_progress(range(total), total, "comparing images", "images")
        digests = [_digest(reader.read(row)) for row in rows]
    return Duplicates(len(digests) - len(set(digests)), len(digests))


def find_format(content: bytes) -> str:
    """Return the format that the first bytes of a file have."""
    return next((name for name, place, mark in SIGNATURES if content.startswith(mark, place)), UNKNOWN)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _make_thumbnail(rgb: npt.NDArray[np.uint8]) -> bytes:
    image, file = Image.fromarray(rgb), io.BytesIO()
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    image.save(file, "WEBP", quality=80)
    return file.getvalue()
