"""Encoded images and embeddings to tensors. Size limits are enforced by the header; every failure has a reason."""

import io
import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, TypeVar

import numpy as np
import simplejpeg
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

T = TypeVar("T")
Pixels = UInt8[Tensor, "3 height width"]
JPEG_REDUCTIONS = (8, 4, 2)  # denominators of libjpeg's scaled decoding, the fastest first
MAX_PIXELS = 25 * 10**6  # open_clip's limit; decoding takes up to 470 MiB (WebP)
FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
EMPTY = "no bytes"
UNKNOWN_FORMAT = f"not {', '.join(FORMATS)}"
TOO_LARGE = f"over {MAX_PIXELS / 1e6:.0f} megapixels"
# Decoders take time for each part of a JPEG, which usually has up to 12 scans and one EXIF segment.
MAX_SCANS = 100
MAX_EXIF_SEGMENTS = 16
TOO_MANY_PARTS = f"over {MAX_SCANS} scans or {MAX_EXIF_SEGMENTS} EXIF segments"
TRUNCATED = "truncated"
CORRUPTED = "corrupted"
NOT_AN_ARRAY = "not a .npy array of floats"
NOT_FINITE = "a value is not finite"
JPEG_START = b"\xff\xd8"
SCAN = b"\xff\xda"
EXIF = b"Exif\0\0"
APP1 = b"\xff\xe1"  # begins a segment of EXIF or XMP, which may turn the image
PLAIN_COLOURS = ("Gray", "RGB", "YCbCr")
# Transposition to upright by EXIF orientation.
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Box(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class UnusableImageError(Exception):
    """An image that cannot be decoded; the message is the reason, by which unusable images are counted."""


def decode_image(encoded: bytes) -> Pixels:
    """Decode an image to upright RGB.

    Transparent pixels are blended with white; of an animation the first frame is decoded. Raises UnusableImageError.
    """
    pixels, _ = decode_for_crop(encoded, _whole_image_box, MAX_PIXELS)
    return pixels


def _whole_image_box(width: int, height: int) -> Box:
    return Box(0, 0, height, width)


def decode_for_crop(
    encoded: bytes, crop_box: Callable[[int, int], Box], min_side: int
) -> tuple[Pixels, Box]:
    """Decode a JPEG at the smallest of 1/8, 1/4, 1/2 and 1/1 of its size whose crop has `min_side` pixels each way.

    `crop_box` returns the crop by the image's width and height. Return the pixels and the crop in them, its edges
    rounded. What is no JPEG, is CMYK, is turned by EXIF or is damaged is decoded as by `decode_image`. Raises
    UnusableImageError. Source: libjpeg's scaled decoding.
    """
    size = _plain_upright_jpeg_size(encoded)
    if size is not None:
        reduction, box = _choose_jpeg_reduction(crop_box(*size), min_side)
        with suppress(ValueError):
            return _decode_jpeg_at_reduction(encoded, *size, reduction), box
    pixels = _open_and_decode(encoded, _to_upright_rgb_pixels)
    return pixels, crop_box(pixels.shape[2], pixels.shape[1])


def _choose_jpeg_reduction(box: Box, min_side: int) -> tuple[int, Box]:
    """Return the largest reduction at which a box has `min_side` pixels each way, and the box at this reduction."""
    for reduction in JPEG_REDUCTIONS:
        reduced = reduce_box(box, reduction)
        if min(reduced.height, reduced.width) >= min_side:
            return reduction, reduced
    return 1, box


def _decode_jpeg_at_reduction(encoded: bytes, width: int, height: int, reduction: int) -> Pixels:
    """Decode a JPEG of this size at 1/`reduction` of it.

    Raises ValueError if libjpeg has so much as a warning. The pixels are those of torchvision and of Pillow's
    `Image.draft`, which use the same library with the same settings and take longer.
    """
    min_height = math.ceil(height / reduction)
    min_width = math.ceil(width / reduction)
    pixels = simplejpeg.decode_jpeg(encoded, "RGB", min_height=min_height, min_width=min_width)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _plain_upright_jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG that is RGB or grey and not turned; None for all else.

    Pillow has to look at a JPEG that may be turned or that is not accepted. Raises UnusableImageError.
    """
    if not encoded.startswith(JPEG_START):
        return None
    if APP1 not in encoded and encoded.count(SCAN) <= MAX_SCANS:
        with suppress(ValueError):
            height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
            if colours in PLAIN_COLOURS and width * height <= MAX_PIXELS:
                return width, height
    return _open_and_decode(
        encoded, lambda image: image.size if _is_plain_upright_jpeg(image) else None
    )


def reduce_box(box: Box, reduction: int) -> Box:
    """Return a box in an image of 1/`reduction` of the size, its edges rounded to whole pixels."""
    top = round(box.top / reduction)
    left = round(box.left / reduction)
    bottom = round((box.top + box.height) / reduction)
    right = round((box.left + box.width) / reduction)
    return Box(top, left, bottom - top, right - left)


def _open_and_decode(encoded: bytes, decode: Callable[[Image.Image], T]) -> T:
    """Decode an image of accepted size and format; every failure is an UnusableImageError with a known reason."""
    if not encoded:
        raise UnusableImageError(EMPTY)
    if encoded.startswith(JPEG_START):
        has_many_scans = encoded.count(SCAN) > MAX_SCANS
        if has_many_scans or encoded.count(EXIF) > MAX_EXIF_SEGMENTS:
            raise UnusableImageError(TOO_MANY_PARTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about unusual but valid files
        try:
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:  # reads only the header
                _require_accepted_pixel_count(image)
                return decode(image)
        except (UnusableImageError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise UnusableImageError(UNKNOWN_FORMAT) from None
        except Image.DecompressionBombError:
            raise UnusableImageError(TOO_LARGE) from None
        except Exception as error:  # noqa: BLE001 - the decoders' exceptions for broken bytes are not documented
            message = str(error).lower()
            is_short = "truncated" in message or "incomplete" in message
            raise UnusableImageError(TRUNCATED if is_short else CORRUPTED) from None


def _require_accepted_pixel_count(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise UnusableImageError(TOO_LARGE)


def _to_upright_rgb_pixels(image: Image.Image) -> Pixels:
    """Return the pixels of an opened image, upright and in RGB."""
    image.load()
    transpose = _upright_transposition(image)
    if transpose is not None:
        image = image.transpose(transpose)
    rgb = _to_rgb_on_white(image)
    image.close()  # frees its pixels before the others are copied
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _is_plain_upright_jpeg(image: Image.Image) -> bool:
    if image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return False
    return _upright_transposition(image) is None


def _to_rgb_on_white(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, with white behind transparent pixels."""
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip at 255
        high_bytes = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(high_bytes).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    rgb = Image.new("RGB", rgba.size, "white")
    # Equal to `Image.alpha_composite`, which takes the memory of two images more.
    rgb.paste(rgba, mask=rgba)
    return rgb


def _upright_transposition(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition to upright; None if the image is upright or its EXIF data is broken."""
    try:
        return TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - an image with broken EXIF data is usable
        return None


def decode_embedding_grid(
    encoded: bytes, channels: int, side: int
) -> Float[Tensor, "channels side side"]:
    """Read a grid of embeddings, fp16 or fp32, as fp32; nothing is unpickled.

    A grid is the output of an image tokeniser or autoencoder, as Synth2 trains on (arXiv:2403.07750). Raises
    UnusableImageError unless it has `channels` x `side` x `side` finite numbers.
    """
    if not encoded:
        raise UnusableImageError(EMPTY)
    try:
        grid = np.lib.format.read_array(io.BytesIO(encoded), allow_pickle=False)
    except (ValueError, EOFError, MemoryError):
        raise UnusableImageError(NOT_AN_ARRAY) from None
    if grid.dtype not in (np.float16, np.float32):
        raise UnusableImageError(NOT_AN_ARRAY)
    if grid.shape != (channels, side, side):
        raise UnusableImageError(f"shape {grid.shape}, not {(channels, side, side)}")
    if not np.isfinite(grid).all():
        raise UnusableImageError(NOT_FINITE)
    return torch.from_numpy(np.ascontiguousarray(grid, np.float32))
