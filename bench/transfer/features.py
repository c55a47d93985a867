"""Features of pictures: a tower's, and two that were never trained, as reference lines."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from skimage.feature import hog
from torch import Tensor

from bench.data.pack_stream import for_scoring
from bench.subjects import REFERENCES
from models.image_tower import PIXEL_CHANNELS, ImageTower

Embed = Callable[[UInt8[Tensor, "pictures 4 64 64"]], Float[np.ndarray, "pictures features"]]
BATCH = 256
SIDE = 32  # pixels, of the reference features


def tower_features(tower: ImageTower, device: torch.device) -> Embed:
    """Return what embeds pictures with a frozen tower, in float64 for the solvers behind it."""
    if tower.channels != PIXEL_CHANNELS:
        raise ValueError(f"the tasks hold pictures, and this tower reads embeddings of {tower.channels} channels")
    tower = tower.to(device).eval()

    @torch.inference_mode()
    def embed(pixels: Tensor) -> np.ndarray:
        batches = (for_scoring(batch.to(device), tower.image_size) for batch in torch.split(pixels, BATCH))
        return torch.cat([tower(batch).cpu() for batch in batches]).double().numpy()

    return embed


def raw_pixels(pixels: Tensor) -> np.ndarray:
    """Return pictures of 32 px on white as rows of numbers."""
    small = for_scoring(pixels, SIDE)
    return small.flatten(1).double().numpy()


def hog_and_colour(pixels: Tensor) -> np.ndarray:
    """Return histograms of oriented gradients beside an 8 x 8 x 8 colour histogram.

    Source: Dalal and Triggs 2005, "Histograms of oriented gradients for human detection", by scikit-image; cells of
    8 px on 64 px pictures, 9 orientations, blocks of 2 x 2.
    """
    rgb = _on_white(pixels)
    gradients = [hog(image, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=-1) for image in rgb]
    bins = [(0, 1)] * 3
    colours = [np.histogramdd(image.reshape(-1, 3), bins=8, range=bins)[0].ravel() for image in rgb]
    shares = np.sqrt(np.stack(colours) / rgb[0, ..., 0].size)
    return np.hstack([np.stack(gradients), shares])


def _on_white(pixels: Tensor) -> Float[np.ndarray, "pictures 64 64 3"]:
    rgba = pixels.double() / 255
    return (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1).permute(0, 2, 3, 1).numpy()


REFERENCE_FEATURES: dict[str, Embed] = dict(zip(REFERENCES, (raw_pixels, hog_and_colour), strict=True))
