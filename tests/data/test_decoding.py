"""Every image becomes RGB pixels or an error of a known class; none that is too large is decoded."""

import io
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from bench.data import decoding
from bench.data.decoding import (
    CORRUPTED,
    EMPTY,
    TOO_LARGE,
    TOO_MANY_PARTS,
    TRUNCATED,
    UNKNOWN_FORMAT,
    UnusableImageError,
    decode_image,
)
from bench.profilers.memory import PeakMemory
from tests.chaos.broken_images import bomb, png, resized, resized_webp
from tests.data.shards import encode_image, make_image
from tests.processes import in_child

PLAIN = make_image(0)
JPEG, PNG, WEBP, GIF = (encode_image(PLAIN, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF"))


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


# Usable


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_any_mode_decodes_as_pillow_does(mode: str) -> None:
    jpeg = encode_image(PLAIN.convert(mode))
    with Image.open(io.BytesIO(jpeg)) as image:
        expected = pixels(image.convert("RGB"))
    # Two builds of the same library.
    assert (decode_image(jpeg).float() - expected.float()).abs().max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_formats_decode_bit_exactly(kind: str, mode: str) -> None:
    image = PLAIN.convert(mode)
    assert decode_image(encode_image(image, kind, lossless=True)).equal(
        pixels(image.convert("RGB"))
    )


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_image_is_rotated_by_its_exif_orientation(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    image = encode_image(PLAIN, kind, exif=exif, **{"lossless": True} if kind == "WEBP" else {})
    upright = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(image))))
    found = decode_image(image)
    assert found.shape == upright.shape
    assert (found.float() - upright.float()).abs().max() <= (2 if kind == "JPEG" else 0)


def test_sixteen_bit_images_are_scaled_not_truncated() -> None:
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    found = decode_image(encode_image(Image.fromarray(grey * 257), "PNG"))
    assert found.equal(torch.from_numpy(grey.astype(np.uint8)).expand(3, 16, 16))


def test_transparent_pixels_become_white() -> None:
    hidden = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    hidden.paste((0, 200, 0, 255), (0, 0, 4, 8))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 0, 200, 0])
    palette.paste(0, (4, 0, 8, 8))
    keyed = Image.new("RGB", (8, 8), (9, 9, 9))
    keyed.paste((0, 200, 0), (0, 0, 4, 8))
    for image in (
        encode_image(hidden, "PNG"),
        encode_image(hidden, "WEBP", lossless=True),
        encode_image(palette, "PNG", transparency=0),
        encode_image(palette, "GIF", transparency=0),
        encode_image(keyed, "PNG", transparency=(9, 9, 9)),
    ):
        found = decode_image(image)
        assert found[:, 0, 0].tolist() == [0, 200, 0]
        assert found[:, 0, 7].tolist() == [255, 255, 255]


def test_animation_decodes_to_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("PNG", "WEBP", "GIF"):
        image = encode_image(
            frames[0], kind, save_all=True, append_images=frames[1:], lossless=True
        )
        assert decode_image(image)[:, 4, 4].tolist() == [255, 0, 0]


# Not usable


ENLARGED_JPEG, ENLARGED_WEBP = resized(JPEG, 60_000, 60_000), resized_webp(2**14)
UNUSABLE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", EMPTY),
    "text": (b"<html>404</html>", UNKNOWN_FORMAT),
    "half a GIF": (GIF[: len(GIF) // 2], TRUNCATED),
    "a BMP": (encode_image(PLAIN, "BMP"), UNKNOWN_FORMAT),
    "PostScript": (encode_image(PLAIN, "EPS"), UNKNOWN_FORMAT),  # Pillow would run ghostscript
    "half a JPEG": (JPEG[: len(JPEG) // 2], TRUNCATED),
    "half a PNG": (PNG[: len(PNG) // 2], TRUNCATED),
    "half a WebP": (WEBP[: len(WEBP) // 2], CORRUPTED),
    "a JPEG's beginning": (JPEG[:20], UNKNOWN_FORMAT),
    "half a CMYK JPEG": (encode_image(PLAIN.convert("CMYK"))[:900], TRUNCATED),
    "a PNG with a wrong checksum": (PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:], CORRUPTED),
    "a PNG with too little data": (png(40, 30, zlib.compress(bytes(50))), TRUNCATED),
    "a JPEG without height": (
        JPEG.replace(b"\x00\x1e\x00\x28\x03", b"\x00\x00\x00\x28\x03"),
        UNKNOWN_FORMAT,
    ),
    "a JPEG of 3,600 megapixels": (ENLARGED_JPEG, TOO_LARGE),
    "a WebP of 268 megapixels": (ENLARGED_WEBP, TOO_LARGE),
    "a PNG of 100 megapixels": (png(10_000, 10_000, b""), TOO_LARGE),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_undecodable_image_has_an_error_class(case: str) -> None:
    image, why = UNUSABLE[case]
    with pytest.raises(UnusableImageError) as error:
        decode_image(image)
    assert str(error.value) == why


def bytes_taken(largest: int, image: bytes) -> int:
    """Return how far resident memory rises while an image of at most `largest` pixels is decoded or refused."""
    decoding.MAX_PIXELS = largest
    peak = PeakMemory(torch.device("cpu"))
    with suppress(UnusableImageError):
        decode_image(image)
    return peak.read_peak_bytes_by_field()["peak_rss_bytes"]


def test_decompression_bomb_is_refused_before_allocating(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 4_000
    image = bomb(side, side)
    assert len(image) < 20_000
    monkeypatch.setattr(decoding, "MAX_PIXELS", side * side - 1)
    for one in (image, ENLARGED_WEBP, ENLARGED_JPEG):
        with pytest.raises(UnusableImageError, match=TOO_LARGE):
            decode_image(one)
        assert in_child(bytes_taken, side * side - 1, one) < 8 * 2**20
    assert in_child(bytes_taken, side * side, image) > 40 * 2**20


@pytest.mark.parametrize(
    "part", [b"\xff\xe1\x00\x08Exif\0\0", b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"]
)
def test_jpeg_of_very_many_parts_is_refused_before_decoding(part: bytes) -> None:
    with pytest.raises(UnusableImageError, match=TOO_MANY_PARTS):
        decode_image(JPEG[:2] + part * 101 + JPEG[2:])
