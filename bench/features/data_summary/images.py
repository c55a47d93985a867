"""The images of a random sample: formats, sizes in pixels, flaws and thumbnails."""

import io
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.data.decoding import UnusableImageError, decode_image
from bench.interfaces.data_source import Samples

THUMBNAIL_SIDE = 192  # pixels
DECODED = "decoded"
UNKNOWN = "unknown"
# Format, and the bytes that its files have at an offset.
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
    """An image as it was read: a usable one has a size in pixels, another has a flaw."""

    row: int
    kind: str  # its format
    num_bytes: int
    digest: bytes  # equal for exact copies
    width: int = 0
    height: int = 0
    flaw: str = ""
    thumbnail: bytes = b""  # WebP, of images that are shown


def inspect_image(samples: Samples, row: int, *, is_shown: bool) -> SampledImage:
    """Decode an image; a thumbnail is made if it is shown."""
    if samples.is_decoded:
        content = samples.pixels[row].numpy().tobytes()
        kind = DECODED
    else:
        content = samples.image(row)
        kind = find_format(content)
    digest = blake2b(content, digest_size=16).digest()
    try:
        rgb = (
            _pixels_on_white(samples, row)
            if samples.is_decoded
            else decode_image(content).permute(1, 2, 0).numpy()
        )
    except UnusableImageError as error:
        return SampledImage(row, kind, len(content), digest, flaw=str(error))
    height, width, _ = rgb.shape
    thumbnail = _make_thumbnail(rgb) if is_shown else b""
    return SampledImage(row, kind, len(content), digest, width, height, thumbnail=thumbnail)


def find_format(content: bytes) -> str:
    """Return the format that the first bytes of a file have."""
    for name, offset, signature in SIGNATURES:
        if content.startswith(signature, offset):
            return name
    return UNKNOWN


def _pixels_on_white(samples: Samples, row: int) -> npt.NDArray[np.uint8]:
    """Return an image in memory, whose colours are premultiplied by alpha, on white: [height, width, 3]."""
    pixels = samples.pixels[row].permute(1, 2, 0).numpy()
    rgb: npt.NDArray[np.uint8] = pixels[..., :3] + (255 - pixels[..., 3:])
    return rgb


def _make_thumbnail(rgb: npt.NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(rgb)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    return file.getvalue()
