"""Image transforms: random crops with the sampling of torchvision's RandomResizedCrop, and normalisation."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, UInt8
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bench.data.decoding import Box

ASPECT_RATIOS = (3 / 4, 4 / 3)  # bounds of a crop's width / height, torchvision's default
MAX_TRIES = 10  # boxes drawn before the fallback, as in torchvision
MAX_ASPECT_RATIO = 16  # largest aspect ratio of an image that is scaled; of a longer one the middle is cut out first
WHITE = 255.0  # the largest value of a channel
CropParams = Float[Tensor, " draws"]


def draw_crop_params(images: int, generator: torch.Generator) -> Float[Tensor, "images draws"]:
    """Draw all numbers that an image's crop may need, so that no image's size affects the draws of others."""
    return torch.rand(images, 4 * MAX_TRIES + 1, generator=generator)


def crop_and_resize(
    image: UInt8[Tensor, "3 height width"],
    draws: CropParams,
    scale: tuple[float, float],
    side: int,
    *,
    flip: bool,
) -> UInt8[Tensor, "3 side side"]:
    """Crop and scale (bilinear, antialiased) an image by its draws; with `flip`, mirror half of the images."""
    drawn = draws.tolist()
    height, width = image.shape[1:]
    return resize_crop(image, crop_box(drawn, width, height, scale), drawn, side, flip=flip)


def resize_crop(
    image: UInt8[Tensor, "3 height width"],
    box: Box,
    draws: Sequence[float],
    side: int,
    *,
    flip: bool,
) -> UInt8[Tensor, "3 side side"]:
    """Scale a box (bilinear, antialiased) of an image; with `flip`, mirror half of the images, by their draws.

    The channels of a pixel stay adjacent, as decoders and the scaling have them.
    """
    top, left, height, width = box
    crop = image.permute(1, 2, 0).narrow(0, top, height).narrow(1, left, width).contiguous()
    scaled: Tensor = F.resize_image(crop.permute(2, 0, 1), [side, side], antialias=True)
    return scaled.flip(-1) if flip and draws[-1] < 0.5 else scaled  # noqa: PLR2004


def resize_and_crop_centre(
    image: UInt8[Tensor, "3 height width"], side: int, resize_over_crop: float = 1.0
) -> UInt8[Tensor, "3 side side"]:
    """Scale an image's shorter side (bilinear, antialiased) and crop its centre: how images are shown to score a tower.

    The shorter side is scaled to `resize_over_crop` times the side of the crop.
    """
    lengths = [min(length, MAX_ASPECT_RATIO * min(image.shape[1:])) for length in image.shape[1:]]
    scaled = F.resize(
        F.center_crop(image, lengths), [round(side * resize_over_crop)], antialias=True
    )
    cropped: Tensor = F.center_crop(scaled, [side, side])
    return cropped


def crop_box(draws: Sequence[float], width: int, height: int, scale: tuple[float, float]) -> Box:
    """Return top, left, height and width in pixels of the first drawn box that fits.

    A box's fraction of the image's area is uniform in `scale`, its aspect ratio log-uniform in ASPECT_RATIOS. If none
    fits, the box is the image, its longer side cropped centrally to the bounds of the ratio. Source: torchvision,
    transforms/v2/_geometry.py, RandomResizedCrop.make_params.
    """
    low, high = scale
    narrow, wide = map(math.log, ASPECT_RATIOS)
    for attempt in range(MAX_TRIES):
        area_draw, ratio_draw, top_draw, left_draw = draws[4 * attempt : 4 * attempt + 4]
        area = width * height * (low + (high - low) * area_draw)
        ratio = math.exp(narrow + (wide - narrow) * ratio_draw)
        box_width = round(math.sqrt(area * ratio))
        box_height = round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(top_draw * (height - box_height + 1))
            left = int(left_draw * (width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, max(1, round(height * ASPECT_RATIOS[1])))
    box_height = min(height, max(1, round(width / ASPECT_RATIOS[0])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def normalise(rgb: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Normalise images of range 0 to 1 with open_clip's mean and standard deviation."""
    mean, std = _mean_and_std(rgb.device)
    return (rgb - mean) / std


def denormalise(
    images: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Return normalised images in the range 0 to 1."""
    mean, std = _mean_and_std(images.device)
    return images * std + mean


@cache
@torch.inference_mode(
    mode=False
)  # autograd refuses tensors that were made where the first caller scores
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation on a device, copied once."""
    mean, std = (
        torch.tensor(value).view(3, 1, 1) for value in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    )
    return mean.to(device), std.to(device)
