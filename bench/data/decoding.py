"""Encoded images to pixels: nothing is decoded that its header says is too large, and what fails has a class."""

import io
import warnings
from typing import cast

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

MOST_PIXELS = 25 * 10**6  # open_clip's limit; decoding takes up to 450 MiB (a WebP)
FORMATS = ("JPEG", "PNG", "WEBP")
EMPTY, FOREIGN, TOO_LARGE, TRUNCATED, CORRUPTED = (
    "no bytes",
    f"not {', '.join(FORMATS)}",
    f"over {MOST_PIXELS / 1e6:.0f} megapixels",
    "truncated",
    "corrupted",
)
CLASSES = (EMPTY, FOREIGN, TOO_LARGE, TRUNCATED, CORRUPTED)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF's orientation, what puts a picture upright


class UnusableImageError(Exception):
    """An image that cannot be decoded; its text is the class."""


def decoded(encoded: bytes) -> UInt8[Tensor, "3 height width"]:
    """Decode an image upright to RGB, what is transparent in it put on white; of an animation the first picture.

    Raises UnusableImageError.
    """
    if not encoded:
        raise UnusableImageError(EMPTY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what is only odd
        try:
            return _decoded(encoded)
        except (UnusableImageError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise UnusableImageError(FOREIGN) from None
        except Image.DecompressionBombError:
            raise UnusableImageError(TOO_LARGE) from None
        except Exception as error:  # noqa: BLE001 - what a decoder raises for broken bytes is listed nowhere
            is_short = any(word in str(error).lower() for word in ("truncated", "incomplete"))
            raise UnusableImageError(TRUNCATED if is_short else CORRUPTED) from None


def _decoded(encoded: bytes) -> UInt8[Tensor, "3 height width"]:
    with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:  # reads the header alone
        if image.width * image.height > MOST_PIXELS:
            raise UnusableImageError(TOO_LARGE)
        if image.format == "JPEG" and image.mode in ("RGB", "L") and _turn(image) is None:
            content = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
            return cast("Tensor", decode_jpeg(content, ImageReadMode.RGB))
        image.load()
        turn = _turn(image)
        upright = image if turn is None else image.transpose(turn)
        return torch.from_numpy(np.array(_rgb(upright))).permute(2, 0, 1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what puts a picture upright; None where it is, or its EXIF data cannot be read."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - broken EXIF data does not make a picture unusable
        return None
