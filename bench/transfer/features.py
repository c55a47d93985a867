"""Features of pictures: a tower's, and two that were never trained, as reference lines."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from skimage.feature import hog
from torch import Tensor

from bench.catalog import REFERENCES
from bench.data.normalisation import WHITE, normalised
from bench.transfer.feature_extractor import Embed
from bench.transfer.tasks.pictures import Pictures, shown
from models.image_tower import PIXEL_CHANNELS, ImageTower

PIXELS_SIDE, HOG_SIDE = 32, 64  # in pixels
Normalise = Callable[[Float[Tensor, "batch 3 height width"]], Float[Tensor, "batch 3 height width"]]


def tower_features(tower: ImageTower, device: torch.device, normalise: Normalise = normalised) -> Embed:
    """Return what embeds pictures with a frozen tower, normalised as its training did; float64 for the solvers."""
    if tower.channels != PIXEL_CHANNELS:
        raise ValueError(f"the tasks hold pictures, and this tower reads embeddings of {tower.channels} channels")
    tower = tower.to(device).eval()

    @torch.inference_mode()
    def embed(pictures: Pictures) -> np.ndarray:
        batches = (normalise(batch.to(device) / WHITE) for batch in shown(pictures, tower.image_size))
        return torch.cat([tower(batch).cpu() for batch in batches]).double().numpy()

    return embed


def raw_pixels(pictures: Pictures) -> np.ndarray:
    """Return pictures of 32 px as rows of numbers."""
    small = torch.cat([normalised(batch / WHITE) for batch in shown(pictures, PIXELS_SIDE)])
    return small.flatten(1).double().numpy()


def hog_and_colour(pictures: Pictures) -> np.ndarray:
    """Return histograms of oriented gradients beside an 8 x 8 x 8 colour histogram.

    Source: Dalal and Triggs 2005, "Histograms of oriented gradients for human detection", by scikit-image; cells of
    8 px on 64 px pictures, 9 orientations, blocks of 2 x 2.
    """
    return np.vstack([_hog_and_colour(batch) for batch in shown(pictures, HOG_SIDE)])


def _hog_and_colour(batch: Tensor) -> np.ndarray:
    rgb = (batch.double() / WHITE).permute(0, 2, 3, 1).numpy()
    gradients = [hog(image, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=-1) for image in rgb]
    colours = [np.histogramdd(image.reshape(-1, 3), bins=8, range=[(0, 1)] * 3)[0].ravel() for image in rgb]
    return np.hstack([np.stack(gradients), np.sqrt(np.stack(colours) / HOG_SIDE**2)])


REFERENCE_FEATURES: dict[str, Embed] = dict(zip(REFERENCES, (raw_pixels, hog_and_colour), strict=True))
