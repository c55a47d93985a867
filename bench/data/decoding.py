"""Encoded images, or precomputed image embeddings, to tensors.

Size limits are enforced by the header, and every failure has a class.
"""

import io
import warnings
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

MAX_PIXELS = 25 * 10**6  # open_clip's limit; decoding takes up to 450 MiB (WebP)
FORMATS = ("JPEG", "PNG", "WEBP")
EMPTY = "no bytes"
UNKNOWN_FORMAT = f"not {', '.join(FORMATS)}"
TOO_LARGE = f"over {MAX_PIXELS / 1e6:.0f} megapixels"
MAX_SCANS, MAX_EXIF_SEGMENTS = 100, 16  # of a JPEG, which usually has up to 12 and one; decoders take time for each
TOO_MANY_PARTS = f"over {MAX_SCANS} scans or {MAX_EXIF_SEGMENTS} EXIF segments"
TRUNCATED, CORRUPTED = "truncated", "corrupted"
NOT_AN_ARRAY = "not a .npy array of floats"
TOO_SHORT = "fewer bytes than its header says"
NOT_FINITE = "a value is not finite"
ERROR_CLASSES = (EMPTY, UNKNOWN_FORMAT, TOO_LARGE, TOO_MANY_PARTS, TRUNCATED, CORRUPTED)
JPEG_START, SCAN, EXIF = b"\xff\xd8", b"\xff\xda", b"Exif\0\0"
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # transposition to upright by EXIF orientation
NPY_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class UnusableImageError(Exception):
    """An image that cannot be decoded; the message is its class."""


def decode_image(encoded: bytes) -> UInt8[Tensor, "3 height width"]:
    """Decode an image to upright RGB, transparent pixels blended with white; of an animation the first frame.

    Raises UnusableImageError.
    """
    if not encoded:
        raise UnusableImageError(EMPTY)
    if encoded.startswith(JPEG_START) and (encoded.count(SCAN) > MAX_SCANS or encoded.count(EXIF) > MAX_EXIF_SEGMENTS):
        raise UnusableImageError(TOO_MANY_PARTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about unusual but valid files
        try:
            return _decode(encoded)
        except (UnusableImageError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise UnusableImageError(UNKNOWN_FORMAT) from None
        except Image.DecompressionBombError:
            raise UnusableImageError(TOO_LARGE) from None
        except Exception as error:  # noqa: BLE001 - the decoders' exceptions for broken bytes are not documented
            is_short = any(word in str(error).lower() for word in ("truncated", "incomplete"))
            raise UnusableImageError(TRUNCATED if is_short else CORRUPTED) from None


def _decode(encoded: bytes) -> UInt8[Tensor, "3 height width"]:
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:  # reads only the header
        if image.width * image.height > MAX_PIXELS:
            raise UnusableImageError(TOO_LARGE)
        if image.format == "JPEG" and image.mode in ("RGB", "L") and _transpose_to_upright(image) is None:
            content = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
            return cast("Tensor", decode_jpeg(content, ImageReadMode.RGB))
        image.load()
        transpose = _transpose_to_upright(image)
        upright = image if transpose is None else image.transpose(transpose)
        return torch.from_numpy(np.array(_to_rgb(upright))).permute(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _transpose_to_upright(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition to upright; None if the image is upright or its EXIF data is broken."""
    try:
        return TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - an image with broken EXIF data is usable
        return None


def decode_embedding_grid(encoded: bytes, channels: int, side: int) -> Float[Tensor, "channels side side"]:
    """Read a grid of embeddings, fp16 or fp32 in C order, as fp32; nothing is unpickled.

    A grid is the output of an image tokeniser or autoencoder, as Synth2 trains on (arXiv:2403.07750). Raises
    UnusableImageError unless it has `channels` x `side` x `side` finite numbers.
    """
    if not encoded:
        raise UnusableImageError(EMPTY)
    file = io.BytesIO(encoded)
    try:
        shape, fortran, kind = NPY_HEADER_READERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError):
        raise UnusableImageError(NOT_AN_ARRAY) from None
    if fortran or kind not in (np.dtype("<f2"), np.dtype("<f4")):
        raise UnusableImageError(NOT_AN_ARRAY)
    if shape != (channels, side, side):
        raise UnusableImageError(f"shape {shape}, not {(channels, side, side)}")
    content = encoded[file.tell() :]
    if len(content) != channels * side * side * kind.itemsize:
        raise UnusableImageError(TOO_SHORT)
    grid = torch.from_numpy(np.frombuffer(content, kind).reshape(shape).astype(np.float32))
    if not grid.isfinite().all():
        raise UnusableImageError(NOT_FINITE)
    return grid
