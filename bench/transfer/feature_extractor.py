"""Feature extractors: a tower, or features that are scored beside towers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from skimage.feature import hog
from torch import Tensor

from bench.data.transforms import WHITE, normalise
from bench.experiment.config import Experiment
from bench.interfaces.catalog import LOWER_BOUNDS
from bench.towers.tower_from import LoadedTower
from bench.transfer.feature_matrix import concatenate_batches
from bench.transfer.tasks.image_sources import ImageSource, iterate_eval_batches
from models.checkpoint import require_finite
from models.image_tower import PIXEL_CHANNELS, ImageTower

PIXELS_SIDE = 32  # pixels
HOG_SIDE = 64  # pixels
Embed = Callable[[ImageSource], Float[np.ndarray, "images features"]]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FeatureExtractor:
    """Computes features of images: a frozen tower or a function without training, with what records say of it."""

    name: str  # in records
    embed: Embed  # cached, so that protocols and tasks share the features of a set of images
    device: torch.device
    tower: ImageTower | None = None  # None for untrained features
    experiment: Experiment | None = None  # that trained the tower
    # The tower with its provenance, and its classifier or text tower; None: it is not trained.
    loaded: LoadedTower | None = None


def make_tower_embedder(tower: ImageTower, device: torch.device) -> Embed:
    """Return a function that embeds images by a frozen tower; it raises ValueError for features that are not finite."""
    if tower.channels != PIXEL_CHANNELS:
        raise ValueError(
            f"the tasks hold images, and this tower reads embeddings of {tower.channels} channels"
        )
    tower = tower.to(device).eval()
    dtype = next(tower.parameters()).dtype  # features have it, also under autocast

    @torch.inference_mode()
    def embed(images: ImageSource) -> np.ndarray:
        def embed_batches() -> Iterator[Tensor]:
            for batch in iterate_eval_batches(images, tower.image_size):
                pixels = normalise(batch.to(device).to(dtype) / WHITE)
                yield tower(pixels).to(dtype).cpu()

        features = concatenate_batches(embed_batches(), len(images))
        require_finite(features, f"features of {len(images):,} images")
        return features.numpy()

    return embed


def compute_features_of_batches(
    compute_batch: Callable[[Tensor], Tensor], side: int, images: ImageSource
) -> np.ndarray:
    """Return the rows that a function computes of batches of images, scaled to `side` pixels; one row per image."""
    batches = map(compute_batch, iterate_eval_batches(images, side))
    return concatenate_batches(batches, len(images)).numpy()


def compute_pixels(batch: Tensor) -> Tensor:
    """Return the normalised pixels of images, one row per image."""
    return normalise(batch / WHITE).flatten(1)


def compute_hog_and_colour_histograms(batch: Tensor) -> Tensor:
    """Return histograms of oriented gradients and an 8 x 8 x 8 colour histogram, one row per image.

    Source: Dalal and Triggs 2005, "Histograms of oriented gradients for human detection", by scikit-image; cells of
    8 px on 64 px images, 9 orientations, blocks of 2 x 2.
    """
    rgb = (batch.double() / WHITE).permute(0, 2, 3, 1).numpy()
    rows = []
    for image in rgb:
        gradients = hog(image, pixels_per_cell=(8, 8), cells_per_block=(2, 2), channel_axis=-1)
        counts, _ = np.histogramdd(image.reshape(-1, 3), bins=8, range=[(0, 1)] * 3)
        colours = np.sqrt(counts.ravel() / HOG_SIDE**2)
        rows.append(np.concatenate([gradients, colours]))
    return torch.from_numpy(np.stack(rows))


RAW_PIXELS, HOG_AND_COLOUR = LOWER_BOUNDS
UNTRAINED_FEATURES: dict[str, Embed] = {
    RAW_PIXELS: partial(compute_features_of_batches, compute_pixels, PIXELS_SIDE),
    HOG_AND_COLOUR: partial(
        compute_features_of_batches, compute_hog_and_colour_histograms, HOG_SIDE
    ),
}
