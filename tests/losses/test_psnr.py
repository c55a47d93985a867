"""The loss of RangeAugment and its target are their formulas, term by term."""

import math

import pytest
import torch
from torch import Tensor

from losses.psnr import psnr_loss, scheduled_target_mse


def slow_loss(images: Tensor, augmented: Tensor, target: float) -> Tensor:
    """`neural_augmentation.py`, pixel by pixel: smooth L1 is half a square up to 1, and from there the distance."""
    terms = []
    for image, changed in zip(images, augmented, strict=True):
        pairs = list(zip(image.flatten(), changed.flatten(), strict=True))
        error = sum(
            ((255 * (after - before)) ** 2 for before, after in pairs),
            torch.zeros((), dtype=image.dtype),
        )
        distance = (error / len(pairs) - target).abs()
        terms.append(distance**2 / 2 if distance < 1 else distance - 0.5)
    return torch.stack(terms).mean() * 100 / 65025


@pytest.mark.parametrize("target", [6.5025, 40.0, 650.25])
def test_psnr_loss_and_gradients_equal_a_loop_over_pixels(target: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 2, 3, generator=generator, dtype=torch.float64)
    # The third is 40 squared.
    changes = torch.tensor([0.0, 0.01, 0.0248, 0.3], dtype=torch.float64).view(4, 1, 1, 1)
    augmented = (images + changes).requires_grad_()
    found = psnr_loss(images, augmented, torch.tensor(target, dtype=torch.float64))
    expected = slow_loss(images, augmented, target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(loss, augmented)[0] for loss in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-15)


def test_target_falls_from_40_to_20_decibels_by_the_released_curve() -> None:
    num_steps, (first, last) = 10, (6.5025, 650.25)
    curve = [
        last + 0.5 * (first - last) * (1 + math.cos(math.pi * i / (num_steps + 1)))
        for i in range(num_steps + 1)
    ]
    found = [
        float(scheduled_target_mse(torch.tensor(float(step), dtype=torch.float64), num_steps))
        for step in range(15)
    ]
    assert found == pytest.approx([*curve, *[curve[-1]] * 4])
    decibels = [10 * math.log10(255**2 / error) for error in found]
    assert decibels[0] == pytest.approx(40)
    assert decibels[-1] == pytest.approx(20, abs=0.1)
    assert sorted(decibels, reverse=True) == decibels
