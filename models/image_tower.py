"""The image tower that all methods of a comparison share."""

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import open_clip
import timm
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models import (
    Features,
    Images,
    corenet_vit,
    find_open_clip_config,
    format_similar_names,
    unwrap_timm_trunk,
)
from models.open_clip_blocks import (
    compute_all_tokens_in_last_block,
    replace_blocks_by_image_blocks,
    uses_class_token_only,
)
from models.patch_drop import add_patch_drop
from models.patch_embedding import use_linear_patch_embedding
from models.patch_tokens import (
    PatchTokens,
    compute_patch_tokens,
    infer_patch_count_and_width,
)
from models.pooling import Pooling, pool_to_class_token_and_patch_mean, set_pooling
from models.repeated_blocks import compute_equal_blocks_once, copy_to_meta

PIXEL_CHANNELS = 3
MeanAndStd = tuple[Sequence[float], Sequence[float]]  # of the pixels, by channel
# By which a tower's pixels are normalised.
PIXEL_STATISTICS: dict[str, MeanAndStd] = {
    "openai": (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class Renormalise(nn.Module):
    """Convert images from open_clip's mean and deviation, which this project uses, to another mean and deviation.

    Its buffers are not saved with a tower.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        values = torch.tensor((OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, mean, std))
        our_mean, our_std, their_mean, their_std = values.float().view(4, 3, 1, 1)
        self.register_buffer("scale", our_std / their_std, persistent=False)
        self.register_buffer("shift", (our_mean - their_mean) / their_std, persistent=False)

    def forward(self, images: Images) -> Images:
        return images * self.scale + self.shift


def make_renormalisation(mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """Return the conversion of normalised images to this mean and deviation; the identity if they are our own."""
    is_ours = tuple(mean) == OPENAI_DATASET_MEAN and tuple(std) == OPENAI_DATASET_STD
    return nn.Identity() if is_ours else Renormalise(mean, std)


class ImageTower(nn.Module):
    """Map images to one feature each, before any projection.

    `trunk` is an open_clip or timm image model without its projection, or CoreNet's ViT. `width` is the length of the
    feature, `image_size` the side in pixels that it was built for, `image_sizes` other sides that it must accept;
    `channels` is 3 for pixels. `renormalise` converts images for a trunk that was trained with another normalisation.
    """

    def __init__(
        self,
        trunk: nn.Module,
        image_size: int,
        image_sizes: Sequence[int] = (),
        channels: int = PIXEL_CHANNELS,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.renormalise: nn.Module = nn.Identity()
        self.image_size = image_size
        self.channels = channels
        self.width = _infer_feature_width(trunk, (image_size, *image_sizes), channels)

    def forward(
        self, images: Images, *, with_patch_mean: bool = False, as_patch_tokens: bool = False
    ) -> Features | tuple[Features, Features] | PatchTokens:
        """Embed normalised images, or grids of embeddings.

        `with_patch_mean`: `pool_to_class_token_and_patch_mean`. `as_patch_tokens`: `compute_patch_tokens`.
        """
        images = self.renormalise(images)
        if as_patch_tokens:
            return compute_patch_tokens(self.trunk, images)
        if with_patch_mean:
            return pool_to_class_token_and_patch_mean(self.trunk, images)
        features: Tensor = self.trunk(images)
        return features

    def compute_patch_tokens(self, images: Images) -> PatchTokens:
        """Return the features of all patches of normalised images, if the last block computes them.

        See `models.patch_tokens`. The time counts as the phase "image forward", like that of `forward`.
        """
        tokens: PatchTokens = self(images, as_patch_tokens=True)
        return tokens

    def infer_patch_token_width(self) -> int:
        """Return the width of the patch tokens, without computing them; ValueError for a tower without patch tokens."""
        _, width = infer_patch_count_and_width(self.trunk, self.image_size, self.channels)
        return width

    def infer_patch_size(self) -> int:
        """Return the side of a patch in pixels; ValueError for a tower without patch tokens."""
        count, _ = infer_patch_count_and_width(self.trunk, self.image_size, self.channels)
        return self.image_size // math.isqrt(count)


def build_image_tower(
    name: str,
    image_size: int,
    seed: int,
    image_sizes: Sequence[int] = (),
    patch_drop: float = 0.0,
    input_embedding_grid_channels: int | None = None,
    pooling: Pooling = "tower",
    pixel_normalisation: str = "openai",
    *,
    last_block_computes_patches: bool = False,
) -> ImageTower:
    """Build the tower of an open_clip model, a timm model or `corenet-vit-base`.

    Equal arguments give equal weights, bit for bit, because the weights are drawn from a new generator of `seed`. The
    tower also accepts images of `image_sizes`, which do not change the weights: timm interpolates the position
    embeddings. In training the tower drops a share `patch_drop` of the patches. With `input_embedding_grid_channels` it
    reads grids of embeddings, one per patch, instead of pixels. See `set_pooling` for `pooling`.
    `pixel_normalisation` is a name of PIXEL_STATISTICS: the tower takes images normalised as this project does
    and converts them for its trunk. With `last_block_computes_patches` the last block computes all tokens, for
    `ImageTower.compute_patch_tokens`.
    Raises ValueError for a name that neither library has, or a tower that does not accept an image size or one of the
    settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = find_open_clip_config(name)
        if input_embedding_grid_channels is not None:
            trunk = _build_embedding_trunk(name, config, image_size, input_embedding_grid_channels)
        elif name.startswith(corenet_vit.PREFIX):
            trunk = corenet_vit.build_corenet_vit(name)
        elif config is not None:
            trunk = build_open_clip_trunk(config, image_size)
        else:
            trunk = _build_timm_trunk(name, image_size, has_several_sizes=len(image_sizes) > 0)
        if last_block_computes_patches or pooling != "tower":
            compute_all_tokens_in_last_block(trunk)
        if pooling != "tower":
            set_pooling(trunk, name, pooling)
        if patch_drop:
            add_patch_drop(trunk, patch_drop)
        use_linear_patch_embedding(trunk)
        _require_whole_patches(name, trunk, [image_size, *image_sizes])
        try:
            tower = ImageTower(
                trunk, image_size, image_sizes, input_embedding_grid_channels or PIXEL_CHANNELS
            )
        except (AssertionError, RuntimeError) as error:
            sides = ", ".join(map(str, image_sizes or [image_size]))
            raise ValueError(
                f"tower {name!r} does not take images of {sides} px: {error}"
            ) from None
        tower.renormalise = make_renormalisation(*PIXEL_STATISTICS[pixel_normalisation])
        return tower


def published_image_size(name: str) -> int:
    """Return the side in pixels of the images that a tower was published for."""
    if name.startswith(corenet_vit.PREFIX):
        return corenet_vit.IMAGE_SIZE
    config = find_open_clip_config(name)
    if config is not None:
        return int(config["vision_cfg"]["image_size"])
    _require_timm_model(name)
    timm_config: Any = timm.get_pretrained_cfg(name)
    return int(timm_config.input_size[-1])


def build_open_clip_trunk(config: dict[str, Any], image_size: int) -> nn.Module:
    """Build the image tower of an open_clip configuration, without its projection.

    The blocks of a vision transformer are replaced by this project's. The last one computes the class token alone where
    only that is used.
    """
    vision = copy.deepcopy(config["vision_cfg"])
    vision |= {"image_size": image_size, "timm_model_pretrained": False}
    trunk: nn.Module = _build_vision_tower(
        config["embed_dim"], vision, config.get("quick_gelu", False)
    )
    if isinstance(trunk, OpenClipViT):
        trunk.proj = None
        trunk.output_tokens = False
        class_token_only = uses_class_token_only(trunk)
        replace_blocks_by_image_blocks(trunk.transformer, class_token_only=class_token_only)
    elif isinstance(trunk, TimmModel):
        trunk.trunk.reset_classifier(0)
        pools = [part for name, part in trunk.head.named_children() if name == "pool"]
        trunk.head = nn.Sequential(*pools)
    return trunk


def _build_embedding_trunk(
    name: str,
    config: dict[str, Any] | None,
    side: int,
    channels: int,
) -> nn.Module:
    """Build a vision transformer that reads `side` x `side` embeddings as patches; ValueError for another tower."""
    if config is not None and "timm_model_name" not in config["vision_cfg"]:
        vision = config["vision_cfg"] | {"patch_size": 1}
        trunk = build_open_clip_trunk(config | {"vision_cfg": vision}, side)
        if isinstance(trunk, OpenClipViT):
            width = trunk.conv1.out_channels
            trunk.conv1 = nn.Conv2d(channels, width, kernel_size=1, bias=False)
            return cast("nn.Module", trunk)
    elif config is None and not name.startswith(corenet_vit.PREFIX):
        with suppress(TypeError):  # of networks without patches
            vit = _create_timm_model(name, img_size=side, patch_size=1, in_chans=channels)
            if isinstance(vit, TimmViT) and type(vit.patch_embed) is PatchEmbed:
                return vit
    raise ValueError(
        f"tower {name!r} cannot read embeddings; accepted are the VisionTransformers of open_clip and timm with a "
        "patch embedding of one layer"
    )


def _build_timm_trunk(name: str, image_size: int, *, has_several_sizes: bool) -> nn.Module:
    """Build a timm model without its classifier, for one image size or several where it takes such a setting."""
    if has_several_sizes:
        with suppress(TypeError):
            return _create_timm_model(name, img_size=image_size, dynamic_img_size=True)
    with suppress(TypeError):
        return _create_timm_model(name, img_size=image_size)
    return _create_timm_model(name)


def _create_timm_model(name: str, **arguments: Any) -> nn.Module:
    _require_timm_model(name)
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    return model


def _require_timm_model(name: str) -> None:
    """Raise ValueError for a name that timm lacks; it would ask a hub for "hf-hub:NAME"."""
    if ":" in name or not timm.is_model(name):
        suggestion = format_similar_names(name, open_clip.list_models() + timm.list_models())
        raise ValueError(f"no tower named {name!r} in open_clip or timm{suggestion}")


def _require_whole_patches(name: str, trunk: nn.Module, image_sizes: Sequence[int]) -> None:
    """Raise ValueError for pixels that no patch covers, unless the tower was published for such images."""
    vit = unwrap_timm_trunk(trunk)
    embedding = getattr(vit, "patch_embed", vit)  # of timm
    if not isinstance(embedding, OpenClipViT | corenet_vit.CorenetViT | PatchEmbed):
        return
    patch = embedding.patch_size[0]
    for side in image_sizes:
        rest = side % patch
        if rest and side != published_image_size(name):
            raise ValueError(
                f"patches of {patch} px of the tower {name} leave {rest} of {side} px uncovered; sizes that fit: "
                f"{side - rest} or {side - rest + patch}"
            )


def _infer_feature_width(trunk: nn.Module, image_sizes: Sequence[int], channels: int) -> int:
    """Return the length of a trunk's feature from a forward without values; AssertionError if it gives no features."""
    probe = copy_to_meta(trunk).eval()
    with torch.no_grad(), torch.device("meta"), compute_equal_blocks_once(probe):
        batches = [torch.empty(1, channels, side, side) for side in image_sizes]
        shape, *_ = [probe(images).shape for images in batches]
    is_one_vector = len(shape) == 2  # noqa: PLR2004
    assert is_one_vector, f"a tower gives one feature per image, this one gives {tuple(shape)}"
    return int(shape[-1])
