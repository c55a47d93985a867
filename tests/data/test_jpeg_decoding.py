"""JPEGs have torchvision's pixels, at a reduced size those of Pillow's draft, whatever decodes them; bit for bit.

Reduced decoding is at the smallest size that the crop allows, of the same region.
"""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as F

from bench.data import decoding
from bench.data.decoding import (
    Box,
    UnusableImageError,
    decode_for_crop,
    decode_image,
    reduce_box,
)
from bench.data.transforms import choose_crop_box, crop_and_resize, draw_crop_numbers, resize_crop
from bench.train.build import open_batch_stream
from tests.data.shards import encode_image, make_image, write_shard
from tests.small import small

CPU, SCALE = torch.device("cpu"), (0.3, 1.0)
DRAWS = draw_crop_numbers(8, torch.Generator().manual_seed(0))
WIDTH, HEIGHT = 333, 250  # no multiples of 8


def whole(width: int, height: int) -> Box:
    return Box(0, 0, height, width)


def drawn(draws: torch.Tensor) -> Callable[[int, int], Box]:
    return partial(choose_crop_box, draws.tolist(), area_range=SCALE)


def drafted(jpeg: bytes, reduction: int) -> torch.Tensor:
    """The pixels of Pillow's own draft."""
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft("RGB", (image.width // reduction, image.height // reduction))
        return F.pil_to_tensor(image.convert("RGB"))


def of_torchvision(jpeg: bytes) -> torch.Tensor:
    return decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8), ImageReadMode.RGB)


def with_exif(**tags: int) -> bytes:
    exif = Image.Exif()
    exif.update({ExifTags.Base[name]: value for name, value in tags.items()})
    return exif.tobytes()


PHOTO = make_image(1, WIDTH, HEIGHT)
JPEGS = {
    "plain": encode_image(PHOTO),
    "grey": encode_image(PHOTO.convert("L")),
    "RGB in the file": encode_image(PHOTO, keep_rgb=True),
    "full colour": encode_image(PHOTO, subsampling=0),
    "half colour": encode_image(PHOTO, subsampling=1),
    "low quality": encode_image(PHOTO, quality=20, optimize=True),
    "restart markers": encode_image(PHOTO, restart_marker_rows=1),
    "comment": encode_image(PHOTO, comment=b"a dog"),
    "colour profile": encode_image(
        PHOTO, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "upright by EXIF": encode_image(PHOTO, exif=with_exif(Orientation=1)),
    "progressive": encode_image(PHOTO, progressive=True),
}
WARNED = {  # libjpeg warns of them and goes on
    "extraneous bytes": JPEGS["plain"][:-2] + bytes(9) + JPEGS["plain"][-2:],
    "a damaged scan": JPEGS["plain"][:-400] + bytes(50) + JPEGS["plain"][-350:],
}


@pytest.mark.parametrize("kind", [*JPEGS, *WARNED])
def test_pixels_are_those_of_torchvision_and_of_pillows_draft(kind: str) -> None:
    jpeg = (JPEGS | WARNED)[kind]
    assert decode_image(jpeg).equal(of_torchvision(jpeg))
    for reduction in (2, 4, 8):
        image, _ = decode_for_crop(jpeg, whole, HEIGHT // reduction)
        assert image.equal(of_torchvision(jpeg) if kind in WARNED else drafted(jpeg, reduction))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(*[st.integers(0, 3000)] * 2, *[st.integers(1, 3000)] * 2, st.sampled_from([2, 4, 8]))
def test_reduced_box_is_the_same_region_to_half_a_pixel(
    top: int, left: int, height: int, width: int, reduction: int
) -> None:
    new_top, new_left, new_height, new_width = reduce_box(Box(top, left, height, width), reduction)
    for edge, new in (
        *((top, new_top), (top + height, new_top + new_height)),
        *((left, new_left), (left + width, new_left + new_width)),
    ):
        assert abs(edge / reduction - new) <= 0.5
    # Inside what libjpeg decodes, which rounds up.
    assert new_top + new_height <= -(-(top + height) // reduction)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, None]
)  # None: grey
@pytest.mark.parametrize("side", [26, 54, 110])
def test_pixels_are_those_of_pillows_draft_and_the_same_resize(
    options: dict[str, object] | None, side: int
) -> None:
    image = make_image(1, WIDTH, HEIGHT)
    jpeg = encode_image(image.convert("L")) if options is None else encode_image(image, **options)
    reductions = set()
    for draws in DRAWS:
        box = choose_crop_box(draws.tolist(), WIDTH, HEIGHT, SCALE)
        fitting = [by for by in (8, 4, 2) if min(reduce_box(box, by)[2:]) >= side]
        image, found = decode_for_crop(jpeg, drawn(draws), side)
        result = resize_crop(image, found, draws.tolist(), side, flip=True)
        reductions.add(reduction := next(iter(fitting), 1))
        if reduction == 1:
            expected = crop_and_resize(decode_image(jpeg), draws, SCALE, side, flip=True)
        else:
            pixels = drafted(jpeg, reduction)
            assert pixels.shape == (3, -(-HEIGHT // reduction), -(-WIDTH // reduction))
            expected = resize_crop(
                pixels, reduce_box(box, reduction), draws.tolist(), side, flip=True
            )
        assert result.equal(expected)
    assert reductions == {26: {8, 4}, 54: {4, 2}, 110: {2, 1}}[side]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_corrupted_jpeg_gives_the_pixels_or_the_error_that_pillow_gives(
    data: st.DataObject,
) -> None:
    jpeg = bytearray(encode_image(make_image(1, 64, 48)))
    for _ in range(data.draw(st.integers(1, 4))):
        jpeg[data.draw(st.integers(0, len(jpeg) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(decode_image, bytes(jpeg))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoding, "_plain_upright_jpeg_size", lambda _: None)
        assert found == outcome(decode_image, bytes(jpeg))


def outcome(decode: Callable[[bytes], torch.Tensor], jpeg: bytes) -> str | tuple[torch.Size, bytes]:
    """The shape and the pixels, or the class of the error."""
    try:
        pixels = decode(jpeg)
    except UnusableImageError as error:
        return str(error)
    return pixels.shape, pixels.numpy().tobytes()


def test_batches_of_shards_are_of_the_decoding_that_the_experiment_names(
    tmp_path: Path, results: Path
) -> None:
    members = {
        f"{n}.{s}": c
        for n in range(16)
        for s, c in (("jpg", encode_image(photo(n))), ("txt", b"a dog"))
    }
    data = str(write_shard(tmp_path / "s.tar", members))
    full, reduced = (
        open_batch_stream(small("clip", data=data, jpeg_decoding=kind), CPU, results)
        .batch(0)
        .images
        for kind in ("full", "reduced")
    )
    assert 0 < (full - reduced).abs().mean() < 0.2  # standard deviations
    with pytest.raises(ValueError, match="jpeg_decoding must be full without JPEGs in shards"):
        small("clip", jpeg_decoding="reduced")
    with pytest.raises(ValueError, match="jpeg_decoding must be full without JPEGs in shards"):
        small("clip", data=data, input_embedding_grid_channels=8, jpeg_decoding="reduced")


def photo(seed: int) -> Image.Image:
    return make_image(seed, 400, 300)
