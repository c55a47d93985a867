"""Towers for dense tasks: the features at each position of an image, and towers at another image size."""

import copy
import math

from jaxtyping import Float
from open_clip.transformer import VisionTransformer as OpenClipViT
from torch import Tensor, nn

from models import unwrap_timm_trunk
from models.checkpoint import resample_position_embeddings
from models.image_tower import ImageTower
from models.open_clip_blocks import compute_all_tokens_in_last_block


def compute_patch_feature_map(
    tower: ImageTower, images: Float[Tensor, "batch 3 side side"]
) -> Float[Tensor, "batch channels rows rows"]:
    """Return the features of each patch of square images; see `ImageTower.compute_patch_tokens`."""
    tokens = tower.compute_patch_tokens(images)
    rows = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, rows)


def copy_resized_tower(
    tower: ImageTower, nearest_image_size: int, *, last_block_computes_patches: bool = False
) -> ImageTower:
    """Return a copy of a tower for images of `nearest_image_size` pixels, rounded to a multiple of its patch size.

    Position embeddings are resampled by the code of the tower's own library, as when its weights are loaded at that
    size (`resample_position_embeddings`). For `last_block_computes_patches` see `build_image_tower`. ValueError for a
    tower that accepts its own size alone.
    """
    patch = tower.infer_patch_size()
    rows = max(1, round(nearest_image_size / patch))
    size = rows * patch
    wrapped_trunk = copy.deepcopy(tower.trunk)
    trunk = unwrap_timm_trunk(wrapped_trunk)
    if isinstance(trunk, OpenClipViT):
        trunk.image_size = (size, size)
        trunk.grid_size = (rows, rows)
        weights = resample_position_embeddings(trunk.state_dict(), trunk)
        trunk.positional_embedding = nn.Parameter(weights["positional_embedding"])
    elif hasattr(trunk, "set_input_size"):  # timm's models with position embeddings or windows
        trunk.set_input_size(img_size=(size, size))
    if last_block_computes_patches:
        compute_all_tokens_in_last_block(trunk)
    try:
        resized = ImageTower(wrapped_trunk, size, channels=tower.channels)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"a {type(trunk).__name__} cannot be resized to {size} px: {error}"
        ) from None
    resized.renormalise = copy.deepcopy(tower.renormalise)
    return resized.train(tower.training)
