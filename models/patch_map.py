"""Towers for dense tasks: the features at each position of an image, and towers at another image size."""

import copy
from collections.abc import Iterable

import torch
from jaxtyping import Float
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models import unwrap_timm_trunk
from models.checkpoint import resample_position_embeddings
from models.corenet_vit import CorenetViT
from models.image_tower import ImageTower
from models.open_clip_blocks import ClassTokenOnlyBlock
from models.repeated_blocks import copy_to_meta


def compute_patch_feature_map(
    tower: ImageTower, images: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, "batch channels rows columns"]:
    """Return the features of each patch after the last block and the final norm, for normalised images.

    All patches are computed, also for a tower that drops some in training or computes only the class token. For plain
    vision transformers images may have any sides that the patch size divides; position embeddings are resampled
    (bicubic, antialiased). Raises ValueError for sides that a tower does not accept, or a tower without a map.
    """
    trunk = unwrap_timm_trunk(tower.trunk)
    images = tower.renormalise(images)
    has_plain_patches = type(trunk) is TimmViT and type(trunk.patch_embed) is PatchEmbed
    if isinstance(trunk, OpenClipViT):
        return _compute_open_clip_map(trunk, images)
    if isinstance(trunk, CorenetViT):
        return _compute_corenet_map(trunk, images)
    if has_plain_patches:
        return _compute_timm_map(trunk, images)
    try:  # timm's other models
        features: list[Tensor] = trunk.forward_intermediates(
            images, indices=1, norm=True, intermediates_only=True
        )
    except (AttributeError, AssertionError, RuntimeError) as error:
        size = list(images.shape[-2:])
        raise ValueError(
            f"a {type(trunk).__name__} makes no patch map of {size} px: {error}"
        ) from None
    return features[-1]


@torch.no_grad()
def get_feature_map_channels_and_patch_size(tower: ImageTower) -> tuple[int, int]:
    """Return the number of channels of a tower's patch map, and the side of a patch in pixels."""
    with torch.device("meta"):
        probe = copy_to_meta(tower).eval()
        side = tower.image_size
        images = torch.empty(1, 3, side, side)
        _, channels, rows, _ = compute_patch_feature_map(probe, images).shape
    return channels, side // rows


def copy_resized_tower(tower: ImageTower, nearest_image_size: int) -> ImageTower:
    """Return a copy of a tower for images of `nearest_image_size` pixels, rounded to a multiple of its patch size.

    Position embeddings are resampled by the code of the tower's own library, as when its weights are loaded at that
    size (`resample_position_embeddings`). ValueError for a tower that accepts its own size alone.
    """
    _, patch = get_feature_map_channels_and_patch_size(tower)
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
    try:
        resized = ImageTower(wrapped_trunk, size, channels=tower.channels)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"a {type(trunk).__name__} cannot be resized to {size} px: {error}"
        ) from None
    resized.renormalise = copy.deepcopy(tower.renormalise)
    return resized.train(tower.training)


def _compute_open_clip_map(trunk: OpenClipViT, images: Tensor) -> Tensor:
    """Compute the map like open_clip's forward, for images of any size."""
    patch, _ = trunk.patch_size
    rows, columns = _count_patch_rows_and_columns(images, patch)
    patches = trunk.conv1(images).flatten(2).transpose(1, 2)
    embedding = trunk.positional_embedding[None]
    positions = resample_abs_pos_embed(embedding, [rows, columns], list(trunk.grid_size))
    class_tokens = trunk.class_embedding.expand(len(images), 1, -1)
    x = torch.cat([class_tokens, patches], dim=1)
    x = trunk.ln_pre(x + positions)
    x = _run_blocks(trunk.transformer.resblocks, x)
    # open_clip does not normalise tokens that it pools by attention or before the norm.
    if trunk.attn_pool is None and not trunk.final_ln_after_pool:
        x = trunk.ln_post(x)
    return _tokens_to_map(x, rows, columns)


def _compute_corenet_map(trunk: CorenetViT, images: Tensor) -> Tensor:
    """Compute the map without the class token, as in CatLIP's dense recipes."""
    patch, _ = trunk.patch_size
    rows, columns = _count_patch_rows_and_columns(images, patch)
    x = trunk.stem(images).flatten(2).transpose(1, 2)
    x = x + trunk.resample_positions(rows * columns)
    x = _run_blocks(trunk.transformer.resblocks, x)
    return _tokens_to_map(trunk.norm(x), rows, columns)


def _compute_timm_map(trunk: TimmViT, images: Tensor) -> Tensor:
    """Compute the map like timm's forward for dynamic image sizes, which trunks built for one size refuse."""
    embedding = trunk.patch_embed
    rows, columns = _count_patch_rows_and_columns(images, embedding.patch_size[0])
    x = embedding.proj(images).flatten(2).transpose(1, 2)
    x = embedding.norm(x)
    learned_tokens = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
    prefix_tokens = [token.expand(len(x), -1, -1) for token in learned_tokens]
    num_embedded = 0 if trunk.no_embed_class else trunk.num_prefix_tokens
    positions = resample_abs_pos_embed(
        trunk.pos_embed, [rows, columns], list(embedding.grid_size), num_embedded
    )
    if trunk.no_embed_class:
        x = torch.cat([*prefix_tokens, x + positions], dim=1)
    else:
        x = torch.cat([*prefix_tokens, x], dim=1) + positions
    x = trunk.pos_drop(x)
    x = trunk.norm_pre(x)
    x = trunk.blocks(x)
    return _tokens_to_map(trunk.norm(x), rows, columns)


def _run_blocks(blocks: Iterable[nn.Module], x: Float[Tensor, "batch tokens width"]) -> Tensor:
    """Return the tokens after all blocks."""
    for block in blocks:
        x = block.forward_all_tokens(x) if isinstance(block, ClassTokenOnlyBlock) else block(x)
    return x


def _count_patch_rows_and_columns(images: Tensor, patch: int) -> tuple[int, int]:
    """Return the rows and columns of patches of an image; ValueError if its sides are no multiples of a patch."""
    height, width = images.shape[-2:]
    if height % patch or width % patch:
        raise ValueError(
            f"images of {width} x {height} px do not divide into patches of {patch} px"
        )
    return height // patch, width // patch


def _tokens_to_map(tokens: Float[Tensor, "batch tokens width"], rows: int, columns: int) -> Tensor:
    """Return the patch tokens, which are the last tokens, as a map of shape (batch, width, rows, columns)."""
    num_patches = rows * columns
    patches = tokens[:, -num_patches:]
    channels_first = patches.transpose(1, 2)
    return channels_first.reshape(len(tokens), -1, rows, columns)
