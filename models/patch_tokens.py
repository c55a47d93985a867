"""The features of an image's patches, for methods that read all of them."""

import torch
from jaxtyping import Float
from open_clip.transformer import Transformer
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models import Images, unwrap_timm_trunk
from models.corenet_vit import CorenetViT
from models.open_clip_blocks import ClassTokenOnlyBlock, compute_all_tokens_in_last_block
from models.repeated_blocks import copy_to_meta

PatchTokens = Float[Tensor, "batch patches token_width"]


def compute_patch_tokens(trunk: nn.Module, images: Images) -> PatchTokens:
    """Return the features of the patches after the last block, row by row, without class and register tokens.

    They are after the last norm, unless the trunk normalises behind its pooling. A convolutional network has a token
    for each position of its last feature map. In training, patches that the tower drops have no token. Raises
    ValueError for a trunk whose last block computes the class token alone.
    """
    vit = unwrap_timm_trunk(trunk)
    if isinstance(vit, OpenClipViT):
        _require_last_block_computes_patches(vit.transformer)
        tokens = vit.transformer(vit._embeds(images))  # noqa: SLF001 - images to the tokens of the first block
        if vit.attn_pool is None and not vit.final_ln_after_pool:
            tokens = vit.ln_post(tokens)
        without_class_token: Tensor = tokens[:, 1:]
        return without_class_token
    if isinstance(vit, CorenetViT):
        _require_last_block_computes_patches(vit.transformer)
        normed: Tensor = vit.norm(vit.compute_tokens(images))
        return normed[:, 1:]
    if isinstance(vit, TimmViT | Eva):
        features: Tensor = vit.forward_features(images)
        return features[:, vit.num_prefix_tokens :]
    feature_maps: list[Tensor] = vit.forward_intermediates(  # timm's other models
        images, indices=1, norm=True, intermediates_only=True
    )
    return feature_maps[-1].flatten(2).transpose(1, 2)


def _require_last_block_computes_patches(transformer: Transformer) -> None:
    """Raise ValueError if the last block computes the class token alone; dropped patches are allowed."""
    has_class_token_alone = isinstance(transformer.resblocks[-1], ClassTokenOnlyBlock)
    if has_class_token_alone:
        raise ValueError(
            "the tower's last block computes only the class token: set `reads_patch_tokens = True` in the method"
        )


@torch.no_grad()
def infer_patch_count_and_width(
    trunk: nn.Module, image_size: int, channels: int
) -> tuple[int, int]:
    """Return the number and the width of a trunk's patch tokens; ValueError for a trunk that gives none."""
    probe = copy_to_meta(trunk).eval()
    compute_all_tokens_in_last_block(probe)
    images = torch.empty(1, channels, image_size, image_size, device="meta")
    try:
        _, count, width = compute_patch_tokens(probe, images).shape
    except (AttributeError, AssertionError, RuntimeError) as error:
        name = type(unwrap_timm_trunk(trunk)).__name__
        raise ValueError(f"a {name} has no patch tokens: {error}") from None
    return count, width
