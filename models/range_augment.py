"""RangeAugment: brightness, contrast and noise of images, with learnt ranges of their magnitudes.

Source: Mehta et al. 2022, arXiv:2212.10553, section 3; apple/corenet at 1aa3acd,
`corenet/modeling/neural_augmentor/neural_aug.py` (`DistributionNeuralAugmentor`) and `utils/neural_aug_utils.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "images 3 height width"]
Magnitudes = Float[Tensor, "images 1 1 1"]
Bounds = tuple[float, float]  # smallest and largest value


def scale_brightness(images: Images, magnitudes: Magnitudes) -> Images:
    """Multiply each image by its magnitude; 1 changes nothing."""
    return images * magnitudes


def scale_contrast(images: Images, magnitudes: Magnitudes) -> Images:
    """Multiply the distance of each pixel to its channel's mean in the image; 1 changes nothing."""
    means = images.mean((-2, -1), keepdim=True)
    return (1 - magnitudes) * means + images * magnitudes


def add_noise(images: Images, magnitudes: Magnitudes) -> Images:
    """Add normal noise; the magnitude is its standard deviation, and 0 changes nothing."""
    return images + torch.randn_like(images) * magnitudes


class AugmentationOperation(NamedTuple):
    """An operation, and the range of its magnitudes.

    The released code gives the initial values to the parameters before their sigmoid, so that the first range of
    brightness is 0.60 to 8.38.
    """

    apply: Callable[[Images, Magnitudes], Images]
    low_end: Bounds  # between which the low end of the range stays
    high_end: Bounds
    # Parameters of the low and the high end before training; `magnitude_range` takes their sigmoid.
    initial: tuple[float, float]


OPERATIONS = {
    "brightness": AugmentationOperation(scale_brightness, (0.1, 0.9), (1.1, 10.0), (0.5, 1.5)),
    "contrast": AugmentationOperation(scale_contrast, (0.1, 0.9), (1.1, 10.0), (0.5, 1.5)),
    "noise": AugmentationOperation(add_noise, (0.0, 5e-5), (1e-4, 1.0), (0.0, 0.1)),
}


class RangeAugment(nn.Module):
    """Applies each operation to a random half of the images, with magnitudes drawn uniformly from its range.

    The half is rounded down, to one image at least. Operations follow each other in a random order, without clamping
    between them.

    The ends of the ranges are parameters, trained by the loss of the model and by `losses.psnr.psnr_loss`.
    `steps_taken` is the number of updates so far, which sets the target of that loss.
    """

    steps_taken: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.ParameterDict()
        self.high = nn.ParameterDict()
        for name, operation in OPERATIONS.items():
            low, high = operation.initial
            self.low[name] = nn.Parameter(torch.tensor(low))
            self.high[name] = nn.Parameter(torch.tensor(high))
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.float64))

    def magnitude_range(self, operation_name: str) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the two ends of an operation's range: each a sigmoid of its parameter, scaled to its bounds."""
        operation = OPERATIONS[operation_name]
        low_share = self.low[operation_name].sigmoid()
        high_share = self.high[operation_name].sigmoid()
        low = _interpolate(operation.low_end, low_share)
        high = _interpolate(operation.high_end, high_share)
        return low, high

    def forward(self, images: Images) -> Images:
        """Return augmented images; images in and out have values from 0 to 1.

        Draws come from torch's generators of the CPU (order) and of the device, which checkpoints hold.
        """
        count = len(images)
        half = max(1, count // 2)
        device = images.device
        names = list(OPERATIONS)
        for number in torch.randperm(len(names), device="cpu").tolist():
            name = names[number]
            rows = torch.randperm(count, device=device)[:half]
            low, high = self.magnitude_range(name)
            shape = (len(rows), 1, 1, 1)
            draws = torch.rand(shape, dtype=low.dtype, device=device)
            magnitudes = low + (high - low) * draws
            selected = images.index_select(0, rows)
            changed = OPERATIONS[name].apply(selected, magnitudes)
            images = images.index_copy(0, rows, changed)
        return images.clamp(0, 1)


def _interpolate(bounds: Bounds, fraction: Tensor) -> Tensor:
    """Return the value at a fraction, 0 to 1, of the way from the smallest to the largest."""
    smallest, largest = bounds
    return smallest + (largest - smallest) * fraction
