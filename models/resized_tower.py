"""Towers for another image size than they were built for."""

import copy
from typing import Any

from open_clip.transformer import VisionTransformer as OpenClipViT
from torch import nn

from models.checkpoint import adapt_to_image_size
from models.image_tower import ImageTower
from models.patch_map import map_channels_and_patch_size


def resized_tower(tower: ImageTower, side: int) -> ImageTower:
    """Return a copy of a tower for images of `side` pixels, rounded to a multiple of its patch size.

    Position embeddings are resampled by the code of the tower's own library, as when its weights are loaded at that
    size (`models/checkpoint.py`, `adapt_to_image_size`). ValueError for a tower that accepts its own size alone.
    """
    patch = map_channels_and_patch_size(tower)[1]
    size = max(1, round(side / patch)) * patch
    whole = copy.deepcopy(tower.trunk)
    trunk: Any = getattr(whole, "trunk", whole)  # open_clip wraps timm models
    if isinstance(trunk, OpenClipViT):
        trunk.image_size, trunk.grid_size = (size, size), (size // patch, size // patch)
        positions = adapt_to_image_size(trunk.state_dict(), trunk)["positional_embedding"]
        trunk.positional_embedding = nn.Parameter(positions)
    elif hasattr(trunk, "set_input_size"):  # of timm's models with position embeddings or windows
        trunk.set_input_size(img_size=(size, size))
    try:
        resized = ImageTower(whole, size, channels=tower.channels)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"a {type(trunk).__name__} cannot be resized to {size} px: {error}") from None
    resized.pixels = copy.deepcopy(tower.pixels)
    return resized.train(tower.training)
