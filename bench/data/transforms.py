"""Image transforms: random crops with the sampling of torchvision's RandomResizedCrop, and normalisation."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, UInt8
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from bench.data.decoding import Box, Pixels

ASPECT_RATIOS = (3 / 4, 4 / 3)  # bounds of a crop's width / height, torchvision's default
LOG_ASPECT_RATIOS = tuple(map(math.log, ASPECT_RATIOS))
MAX_TRIES = 10  # boxes drawn before the fallback, as in torchvision
MAX_ASPECT_RATIO = 16  # largest aspect ratio of an image that is scaled; of a longer one the middle is cut out first
WHITE = 255.0  # the largest value of a channel
AreaRange = tuple[float, float]  # smallest and largest fraction of an image's area
CropParams = Float[Tensor, " draws"]
Images = Float[Tensor, "*batch 3 height width"]

SquarePixels = UInt8[Tensor, "3 side side"]


def draw_crop_numbers(num_images: int, generator: torch.Generator) -> Float[Tensor, "images draws"]:
    """Draw all numbers that an image's crop may need, so that no image's size affects the draws of others.

    They are area, ratio, top and left of each of MAX_TRIES boxes, then one number for the mirroring.
    """
    return torch.rand(num_images, 4 * MAX_TRIES + 1, generator=generator)


def crop_and_resize(
    image: Pixels,
    draws: CropParams,
    area_range: AreaRange,
    side: int,
    *,
    flip: bool,
) -> SquarePixels:
    """Crop and scale (bilinear, antialiased) an image by its draws; with `flip`, mirror half of the images."""
    drawn = draws.tolist()
    height, width = image.shape[1:]
    box = choose_crop_box(drawn, width, height, area_range)
    return resize_crop(image, box, drawn, side, flip=flip)


def resize_crop(
    image: Pixels,
    box: Box,
    draws: Sequence[float],
    side: int,
    *,
    flip: bool,
) -> SquarePixels:
    """Scale a box (bilinear, antialiased) of an image; with `flip`, mirror half of the images, by their draws.

    The channels of a pixel stay adjacent, as decoders and the scaling have them.
    """
    rows = image[:, box.top : box.top + box.height]
    crop = rows[:, :, box.left : box.left + box.width]
    channels_last = crop.permute(1, 2, 0).contiguous()
    scaled: Tensor = F.resize_image(channels_last.permute(2, 0, 1), [side, side], antialias=True)
    is_mirrored = flip and draws[-1] < 0.5  # noqa: PLR2004
    return scaled.flip(-1) if is_mirrored else scaled


def resize_and_crop_centre(image: Pixels, side: int, resize_over_crop: float = 1.0) -> SquarePixels:
    """Scale an image's shorter side (bilinear, antialiased) and crop its centre, as towers see images in scoring.

    The shorter side is scaled to `resize_over_crop` times the side of the crop.
    """
    height, width = image.shape[1:]
    longest = MAX_ASPECT_RATIO * min(height, width)
    centre = F.center_crop(image, [min(height, longest), min(width, longest)])
    shorter_side = round(side * resize_over_crop)
    scaled = F.resize(centre, [shorter_side], antialias=True)
    cropped: Tensor = F.center_crop(scaled, [side, side])
    return cropped


def choose_crop_box(draws: Sequence[float], width: int, height: int, area_range: AreaRange) -> Box:
    """Return the first drawn box that fits into an image of this width and height in pixels.

    A box's fraction of the image's area is uniform in `area_range`, its aspect ratio log-uniform in ASPECT_RATIOS. If
    none fits, the box is the image, its longer side cropped centrally to the bounds of the ratio. Source: torchvision,
    transforms/v2/_geometry.py, RandomResizedCrop.make_params.
    """
    low, high = area_range
    narrow, wide = LOG_ASPECT_RATIOS
    for first in range(0, 4 * MAX_TRIES, 4):
        area_draw, ratio_draw, top_draw, left_draw = draws[first : first + 4]
        fraction = low + (high - low) * area_draw
        area = width * height * fraction
        log_ratio = narrow + (wide - narrow) * ratio_draw
        ratio = math.exp(log_ratio)
        box_width = round(math.sqrt(area * ratio))
        box_height = round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(top_draw * (height - box_height + 1))
            left = int(left_draw * (width - box_width + 1))
            return Box(top, left, box_height, box_width)
    min_ratio, max_ratio = ASPECT_RATIOS
    widest = max(1, round(height * max_ratio))
    highest = max(1, round(width / min_ratio))
    box_width = min(width, widest)
    box_height = min(height, highest)
    top = (height - box_height) // 2
    left = (width - box_width) // 2
    return Box(top, left, box_height, box_width)


def normalise(rgb: Images) -> Images:
    """Normalise images of range 0 to 1 with open_clip's mean and standard deviation."""
    mean, std = _normalisation_mean_and_std(rgb.device)
    return (rgb - mean) / std


def denormalise(images: Images) -> Images:
    """Undo `normalise`: return images of the range 0 to 1."""
    mean, std = _normalisation_mean_and_std(images.device)
    return images * std + mean


# Autograd refuses tensors that were made in inference mode, where the first caller may be.
@cache
@torch.inference_mode(mode=False)
def _normalisation_mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation on a device, copied once."""
    mean = torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
    return mean.to(device), std.to(device)
