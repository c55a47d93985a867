"""Crops are drawn as torchvision draws them, for images of any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from bench.data.decoding import Box
from bench.data.transforms import (
    ASPECT_RATIOS,
    choose_crop_box,
    crop_and_resize,
    draw_crop_numbers,
    resize_crop,
)

SIDES = st.integers(1, 2000)
SCALE = (0.5, 1.0)


def draws(seed: int, images: int = 1) -> torch.Tensor:
    return draw_crop_numbers(images, torch.Generator().manual_seed(seed))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(0, 2**31), SIDES, SIDES, st.floats(0.01, 1))
def test_crop_box_lies_inside_the_image(seed: int, width: int, height: int, low: float) -> None:
    top, left, box_height, box_width = choose_crop_box(
        draws(seed)[0].tolist(), width, height, (low, 1.0)
    )
    assert 0 <= top <= top + box_height <= height
    assert 0 <= left <= left + box_width <= width
    assert box_width > 0 < box_height


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (100, 1000), (256, 256)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_crop_boxes_are_distributed_as_torchvisions(
    width: int, height: int, scale: tuple[float, float]
) -> None:
    count = 3000
    ours = torch.tensor(
        [choose_crop_box(row, width, height, scale) for row in draws(0, count).tolist()]
    ).double()
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = [
            RandomResizedCrop.get_params(image, [*scale], [*ASPECT_RATIOS]) for _ in range(count)
        ]
    theirs = torch.tensor(boxes).double()
    for power in (1, 2):
        one, other = ours**power, theirs**power
        error = ((one.var(dim=0) + other.var(dim=0)) / count).sqrt() + 1e-9
        assert ((one.mean(dim=0) - other.mean(dim=0)).abs() < 4.5 * error).all()


@pytest.mark.parametrize("are_channels_adjacent", [True, False])
def test_crop_equals_torchvisions_resized_crop(are_channels_adjacent: bool) -> None:
    image = torch.randint(0, 256, (60, 70, 3), dtype=torch.uint8).permute(2, 0, 1)
    image = image if are_channels_adjacent else image.contiguous()
    for box in (
        (0, 0, 60, 70),
        (5, 7, 40, 41),
        (0, 8, 60, 62),
        (10, 0, 30, 70),
        (3, 4, 24, 24),
        (59, 69, 1, 1),
    ):
        found = resize_crop(image, Box(*box), draws(0)[0].tolist(), 24, flip=False)
        assert found.equal(F.resized_crop(image, *box, [24, 24], antialias=True))
        assert found.permute(1, 2, 0).is_contiguous()


def test_half_of_the_images_are_flipped() -> None:
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    drawn = draws(0, 400)
    as_they_are = [crop_and_resize(image, row, SCALE, 8, flip=False) for row in drawn]
    flipped = [
        not crop_and_resize(image, row, SCALE, 8, flip=True).equal(plain)
        for row, plain in zip(drawn, as_they_are, strict=True)
    ]
    assert 150 < sum(flipped) < 250
    assert crop_and_resize(image, drawn[flipped.index(True)], SCALE, 8, flip=True).equal(
        as_they_are[flipped.index(True)].flip(-1)
    )
