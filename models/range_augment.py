"""RangeAugment: brightness, contrast and noise of images, with learnt ranges of their magnitudes.

Source: Mehta et al. 2022, arXiv:2212.10553, section 3; apple/corenet at 1aa3acd,
`corenet/modeling/neural_augmentor/neural_aug.py` (`DistributionNeuralAugmentor`) and `utils/neural_aug_utils.py`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Images = Float[Tensor, "images 3 height width"]
Magnitudes = Float[Tensor, "images 1 1 1"]
Bounds = tuple[float, float]


def brightness(images: Images, magnitudes: Magnitudes) -> Images:
    """Multiply each image by its magnitude; 1 changes nothing."""
    return images * magnitudes


def contrast(images: Images, magnitudes: Magnitudes) -> Images:
    """Multiply the distance of each pixel to its channel's mean in the image; 1 changes nothing."""
    return (1 - magnitudes) * images.mean((-2, -1), keepdim=True) + images * magnitudes


def noise(images: Images, magnitudes: Magnitudes) -> Images:
    """Add normal noise; the magnitude is its standard deviation, and 0 changes nothing."""
    return images + torch.randn_like(images) * magnitudes


OPERATIONS: dict[str, Callable[[Images, Magnitudes], Images]] = {
    "brightness": brightness,
    "contrast": contrast,
    "noise": noise,
}
# Bounds of the low and of the high end of each range of magnitudes.
BOUNDS: dict[str, tuple[Bounds, Bounds]] = {
    "brightness": ((0.1, 0.9), (1.1, 10.0)),
    "contrast": ((0.1, 0.9), (1.1, 10.0)),
    "noise": ((0.0, 5e-5), (1e-4, 1.0)),
}
# The released code gives these values to the parameters before their sigmoid, so that the first range of brightness is
# 0.60 to 8.38.
INITIAL: dict[str, Bounds] = {"brightness": (0.5, 1.5), "contrast": (0.5, 1.5), "noise": (0.0, 0.1)}


class RangeAugment(nn.Module):
    """Applies each operation to half of the images, in random order, with magnitudes drawn uniformly from its range.

    The ends of the ranges are parameters, trained by the loss of the model and by `losses.psnr.psnr_loss`.
    `steps_taken` is the number of updates so far, which sets the target of that loss.
    """

    steps_taken: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = (
            nn.ParameterDict(
                {
                    name: nn.Parameter(torch.tensor(initial[end]))
                    for name, initial in INITIAL.items()
                }
            )
            for end in (0, 1)
        )
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.float64))

    def magnitude_range(self, name: str) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the two ends of an operation's range: each a sigmoid of its parameter, scaled to its bounds."""
        low, high = (
            least + (most - least) * parameters[name].sigmoid()
            for parameters, (least, most) in zip((self.low, self.high), BOUNDS[name], strict=True)
        )
        return low, high

    def forward(self, images: Images) -> Images:
        """Return augmented images; images in and out have values from 0 to 1.

        Draws come from torch's generators of the CPU (order) and of the device, which checkpoints hold.
        """
        count = len(images)
        device = images.device
        for number in torch.randperm(len(OPERATIONS), device="cpu").tolist():
            name = [*OPERATIONS][number]
            rows = torch.randperm(count, device=device)[: max(1, count // 2)]
            low, high = self.magnitude_range(name)
            magnitudes = low + (high - low) * torch.rand(
                len(rows), 1, 1, 1, dtype=low.dtype, device=device
            )
            changed = OPERATIONS[name](images.index_select(0, rows), magnitudes)
            images = images.index_copy(0, rows, changed)
        return images.clamp(0, 1)
