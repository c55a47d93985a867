"""Random crops of pictures that each have a size of their own, drawn as torchvision's RandomResizedCrop draws them."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

ASPECT_RATIOS = (3 / 4, 4 / 3)  # of a random crop, torchvision's default
TRIES = 10  # boxes that are drawn before the whole picture is taken, torchvision's number
Draws = Float[Tensor, " draws"]


def draw(pictures: int, generator: torch.Generator) -> Float[Tensor, "pictures draws"]:
    """Draw for each picture what its crop may need, so that no picture's size shifts what the others draw."""
    return torch.rand(pictures, 4 * TRIES + 1, generator=generator)


def cropped(
    picture: UInt8[Tensor, "3 height width"], draws: Draws, scale: tuple[float, float], side: int, *, flip: bool
) -> UInt8[Tensor, "3 side side"]:
    """Crop and scale (bilinear, antialiased) a picture as its draws say; `flip` it in half of the cases."""
    values = draws.tolist()
    height, width = picture.shape[1:]
    box = crop_box(values, width, height, scale)
    scaled: Tensor = F.resized_crop(picture, *box, [side, side], antialias=True)
    return scaled.flip(-1) if flip and values[-1] < 0.5 else scaled  # noqa: PLR2004


def crop_box(draws: Sequence[float], width: int, height: int, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the first box drawn that fits.

    A box has a share of the picture's area drawn from `scale` and an aspect ratio drawn on a logarithmic scale. Where
    none fits, it is the whole picture, its longer side cut in the middle to the bounds of the ratio.
    Source: torchvision, transforms/v2/_geometry.py, RandomResizedCrop.make_params.
    """
    (low, high), (narrow, wide) = scale, map(math.log, ASPECT_RATIOS)
    for attempt in range(TRIES):
        area_draw, ratio_draw, top_draw, left_draw = draws[4 * attempt : 4 * attempt + 4]
        area = width * height * (low + (high - low) * area_draw)
        ratio = math.exp(narrow + (wide - narrow) * ratio_draw)
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = int(top_draw * (height - box_height + 1)), int(left_draw * (width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, max(1, round(height * ASPECT_RATIOS[1])))
    box_height = min(height, max(1, round(width / ASPECT_RATIOS[0])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width
