"""Images as they should not be, by what is wrong with them; some can be used all the same."""

import pickle
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from bench.data.decoding import MAX_PIXELS
from tests.data.shards import encode_image, make_image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of a PNG
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIDE = int(MAX_PIXELS**0.5)  # of the largest square that is decoded


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a piece of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int, height: int, data: bytes, *, depth: int = 8, colour: int = GREY, more: bytes = b""
) -> bytes:
    """Return a PNG whose header says what it is asked to."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb(
    width: int, height: int, *, depth: int = 8, colour: int = GREY, more: bytes = b""
) -> bytes:
    """Return a PNG of one colour: a thousandth of the size of its pixels."""
    row = 1 + -(-width * depth * CHANNELS[colour] // 8)
    squeeze = zlib.compressobj(9)
    data = b"".join(squeeze.compress(bytes(row)) for _ in range(height)) + squeeze.flush()
    return png(width, height, data, depth=depth, colour=colour, more=more)


def resized(jpeg: bytes, width: int, height: int) -> bytes:
    """Let a JPEG's header say another size."""
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def resized_webp(side: int) -> bytes:
    """Return an animation of small images whose header says another size."""
    webp = encode_image(make_image(0), "WEBP", save_all=True, append_images=[make_image(1)])
    place, size = webp.index(b"VP8X") + 12, (side - 1).to_bytes(3, "little")
    return webp[:place] + size * 2 + webp[place + 6 :]


def with_exif(orientation: int) -> Image.Exif:
    """Return EXIF data that say how an image is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def images_of_other_formats() -> dict[str, bytes]:
    """Return what is no JPEG, PNG or WebP."""
    return {
        "noise": np.random.default_rng(0).bytes(5000),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "a pickle": pickle.dumps({"a": 1}),
    }


def corrupted_images() -> dict[str, bytes]:
    """Return what began as an image."""
    jpeg = encode_image(make_image(0))
    whole = encode_image(make_image(0), "PNG")
    animated = encode_image(make_image(0), "WEBP", save_all=True, append_images=[make_image(1)])
    rows = zlib.compress((b"\0" + bytes(40)) * 30)
    return {
        "a JPEG without its end mark": jpeg[:-2],
        "a JPEG with noise in the middle": jpeg[:400] + bytes(40) + jpeg[440:],
        "half a progressive JPEG": encode_image(make_image(0, 200, 200), progressive=True)[:4000],
        "a PNG without data": SIGNATURE + whole[8:33] + chunk(b"IEND", b""),
        "a palette PNG without its palette": png(40, 30, rows, colour=PALETTE),
        "half an animated WebP": animated[: len(animated) // 2],
    }


def images_of_odd_sizes() -> dict[str, bytes]:
    """Return images whose header lies, or that are small and hold much."""
    jpeg = encode_image(make_image(0))
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "\x1b[2J" * 100)
    return {
        "a PNG without width": png(0, 30, b""),
        "a PNG of 2**31 x 2**31": png(2**31 - 1, 2**31 - 1, b""),
        "a JPEG of 4,290 megapixels": resized(jpeg, 65_500, 65_500),
        "a WebP that says twice its size": resized_webp(80),
        "a strip of 20,000 x 1": encode_image(make_image(0, 20_000, 1), "PNG"),
        "a PNG whose text unpacks to 100 MB": bomb(
            40, 30, more=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8)))
        ),
    }


def largest_images() -> dict[str, bytes]:
    """Return images of as many pixels as an image may have."""
    return {
        "the largest grey PNG": bomb(SIDE, SIDE),
        "the largest PNG of 16 bits": bomb(SIDE, SIDE, depth=16),
        "the largest grey PNG with alpha": bomb(SIDE, SIDE, colour=GREY_ALPHA),
        "the largest transparent palette PNG": bomb(
            SIDE, SIDE, colour=PALETTE, more=chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))
        ),
        "the largest JPEG": encode_image(Image.new("RGB", (SIDE, SIDE))),
        "the largest CMYK JPEG": encode_image(Image.new("CMYK", (SIDE, SIDE))),
        "the largest WebP": encode_image(
            Image.new("RGB", (16_383, MAX_PIXELS // 16_383)), "WEBP", method=0
        ),
    }


def images_of_odd_forms() -> dict[str, bytes]:
    """Return images that can be used, if with care."""
    plain, frames = make_image(0), [make_image(number) for number in range(1, 4)]
    return {
        "CMYK": encode_image(plain.convert("CMYK")),
        "progressive": encode_image(plain, progressive=True),
        "palette with a transparent colour": encode_image(
            plain.convert("P"), "PNG", transparency=0
        ),
        "16 bits": encode_image(
            Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "PNG"
        ),
        "alpha": encode_image(plain.convert("RGBA"), "WEBP", lossless=True),
        "an animated WebP": encode_image(plain, "WEBP", save_all=True, append_images=frames),
        "turned by EXIF": encode_image(plain, exif=with_exif(6)),
        "broken EXIF": encode_image(plain, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    }


def broken_images() -> dict[str, bytes]:
    """Return all but the largest, by what is wrong."""
    return (
        images_of_other_formats()
        | corrupted_images()
        | images_of_odd_sizes()
        | images_of_odd_forms()
    )
