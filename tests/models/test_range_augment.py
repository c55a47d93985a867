"""RangeAugment is the released formula, pixel by pixel; ranges of width 0 change nothing; the loss moves the ranges."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.range_augment import OPERATIONS, RangeAugment


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def slow_range(augmentor: RangeAugment, name: str) -> list[Tensor]:
    ends = []
    operation = OPERATIONS[name]
    for parameters, (least, most) in (
        (augmentor.low, operation.low_end),
        (augmentor.high, operation.high_end),
    ):
        ends.append(1 / (1 + torch.exp(-parameters[name])) * (most - least) + least)
    return ends


def slow(augmentor: RangeAugment, images: Tensor) -> Tensor:
    """`neural_aug.py` with one scalar per pixel, and the same draws."""
    count, channels, height, width = images.shape
    rows = [[[[*line] for line in channel] for channel in image] for image in images]
    for number in torch.randperm(3).tolist():
        name = ("brightness", "contrast", "noise")[number]
        chosen = torch.randperm(count)[: max(1, count // 2)].tolist()
        (low, high), drawn = slow_range(augmentor, name), torch.rand(len(chosen), 1, 1, 1).flatten()
        normal = torch.randn(len(chosen), channels, height, width) if name == "noise" else None
        for place, row in enumerate(chosen):
            magnitude = low + drawn[place] * (high - low)
            for c, channel in enumerate(rows[row]):
                mean = sum(sum(line) for line in channel) / (height * width)
                for y, line in enumerate(channel):
                    for x, value in enumerate(line):
                        if name == "brightness":
                            line[x] = value * magnitude
                        elif name == "contrast":
                            line[x] = (1 - magnitude) * mean + value * magnitude
                        else:
                            assert normal is not None
                            line[x] = value + normal[place, c, y, x] * magnitude
    flat = [
        value.clamp(0, 1)
        for image in rows
        for channel in image
        for line in channel
        for value in line
    ]
    return torch.stack(flat).view_as(images)


@pytest.mark.parametrize("seed", range(6))  # of the order of the operations, too
@pytest.mark.usefixtures("double")
def test_values_and_gradients_equal_a_loop_over_pixels(seed: int) -> None:
    augmentor = RangeAugment()
    images = torch.rand(5, 3, 2, 3, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    weights = torch.rand(5, 3, 2, 3)
    found = []
    for function in (augmentor, lambda given: slow(augmentor, given)):
        torch.manual_seed(seed)
        augmented = function(images)
        inputs = [images, *augmentor.parameters()]
        found.append([augmented, *torch.autograd.grad((augmented * weights).sum(), inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
