"""The image tower that all methods of a comparison share."""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

import open_clip
import timm
import torch
from jaxtyping import Float
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import _build_vision_tower
from torch import Tensor, nn

from models import Features, Images, corenet_vit, open_clip_config, similar_names
from models.open_clip_blocks import replace_image_blocks, uses_class_token_only
from models.patch_embedding import use_linear_patch_embedding
from models.repeated_blocks import skip_repeated_blocks
from models.token_subsets import (
    PatchMeans,
    Pooling,
    add_patch_drop,
    feature_and_patch_mean,
    set_pooling,
)

PIXEL_CHANNELS = 3
PIXEL_STATISTICS: dict[
    str, tuple[Any, Any]
] = {  # mean and deviation that a tower's pixels are normalised by
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
        values = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, mean, std)
        our_mean, our_std, their_mean, their_std = torch.tensor(values, dtype=torch.float32).view(
            4, 3, 1, 1
        )
        self.register_buffer("scale", our_std / their_std, persistent=False)
        self.register_buffer("shift", (our_mean - their_mean) / their_std, persistent=False)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        return images * self.scale + self.shift


def make_renormalisation(mean: Sequence[float], std: Sequence[float]) -> Renormalise | None:
    """Return the conversion to this mean and deviation, or None if they are this project's."""
    is_ours = tuple(mean) == OPENAI_DATASET_MEAN and tuple(std) == OPENAI_DATASET_STD
    return None if is_ours else Renormalise(mean, std)


class ImageTower(nn.Module):
    """Map images to one feature each, before any projection.

    `trunk` is an open_clip or timm image model without its projection, or CoreNet's ViT. `width` is the length of the
    feature, `image_size` the side in pixels that it was built for, `image_sizes` other sides that it must accept;
    `channels` is 3 for pixels. `pixels` converts images for a trunk that was trained with another normalisation, or is
    None.
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
        self.pixels: Renormalise | None = None
        self.image_size = image_size
        self.channels = channels
        self.width = _feature_width(trunk, (image_size, *image_sizes), channels)

    @cached_property
    def patch_mean_width(self) -> int:
        """The length of the mean that is returned `with_patch_mean`; ValueError for a trunk without one."""
        return _feature_width(
            self.trunk, [self.image_size], self.channels, lambda *x: feature_and_patch_mean(*x)[1]
        )

    def forward(
        self, images: Images, *, with_patch_mean: bool = False
    ) -> Features | tuple[Features, PatchMeans]:
        """Embed normalised images, or grids of embeddings; with `with_patch_mean` see `feature_and_patch_mean`."""
        images = self.normalise_for_trunk(images)
        if with_patch_mean:
            return feature_and_patch_mean(self.trunk, images)
        features: Tensor = self.trunk(images)
        return features

    def normalise_for_trunk(self, images: Images) -> Images:
        """Return normalised images in the normalisation of the trunk."""
        return images if self.pixels is None else self.pixels(images)


def build_image_tower(
    name: str,
    image_size: int,
    seed: int,
    image_sizes: Sequence[int] = (),
    patch_drop: float = 0.0,
    embedding_channels: int | None = None,
    pooling: Pooling = "own",
    pixel_normalisation: str = "openai",
) -> ImageTower:
    """Build the tower of an open_clip model, a timm model or `corenet-vit-base`, from a generator of its own.

    Equal arguments give equal weights, bit for bit, whatever was built before. Weights do not depend on `image_sizes`,
    which are accepted beside `image_size`: timm interpolates the position embeddings. In training the tower drops a
    share `patch_drop` of the patches. With `embedding_channels` it reads grids of embeddings, one per patch, instead of
    pixels. `pooling` is that of `set_pooling`. `pixel_normalisation` is a name of PIXEL_STATISTICS: the tower takes
    images normalised as this project does and converts them for its trunk. Raises ValueError for a name that neither
    library has, an image size that the tower does not accept, or a tower that cannot drop patches, read embeddings or
    pool so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = open_clip_config(name)
        if embedding_channels is not None:
            trunk = _build_for_embeddings(name, config, image_size, embedding_channels, pooling)
        elif name.startswith(corenet_vit.PREFIX):
            trunk = corenet_vit.corenet_vit(name)
        elif config is not None:
            trunk = build_trunk(config, image_size, pooling)
        else:
            trunk = _build_timm(name, image_size, has_several_sizes=len(image_sizes) > 0)
        if pooling != "own":
            set_pooling(trunk, name, pooling)
        if patch_drop:
            add_patch_drop(trunk, patch_drop)
        use_linear_patch_embedding(trunk)
        try:
            tower = ImageTower(trunk, image_size, image_sizes, embedding_channels or PIXEL_CHANNELS)
        except (AssertionError, RuntimeError) as error:
            text = f"tower {name!r} does not take images of {', '.join(map(str, image_sizes or [image_size]))} px"
            is_built_for_one_size = config is not None and len(image_sizes) > 0
            one_size = (
                "open_clip builds it for one size, and a vision transformer of timm takes any"
            )
            raise ValueError(f"{text}: {one_size if is_built_for_one_size else error}") from None
        if pooling == "both":
            assert tower.patch_mean_width  # raises ValueError for a tower without one
        tower.pixels = make_renormalisation(*PIXEL_STATISTICS[pixel_normalisation])
        return tower


def published_image_size(name: str) -> int:
    """Return the side in pixels of the images that a tower of open_clip or timm was published for."""
    config = open_clip_config(name)
    if config is not None:
        return int(config["vision_cfg"]["image_size"])
    timm_config: Any = timm.get_pretrained_cfg(name)
    return int(timm_config.input_size[-1])


def build_trunk(config: dict[str, Any], image_size: int, pooling: Pooling = "own") -> nn.Module:
    """Build the image tower of an open_clip configuration, without its projection and without unused tokens.

    ValueError for a timm tower that the installed timm does not have, instead of a download from a hub.
    """
    timm_name = config["vision_cfg"].get("timm_model_name")
    if timm_name is not None:
        _require_timm_model(timm_name)
    vision = copy.deepcopy(config["vision_cfg"]) | {
        "image_size": image_size,
        "timm_model_pretrained": False,
    }
    trunk: nn.Module = _build_vision_tower(
        config["embed_dim"], vision, config.get("quick_gelu", False)
    )
    if isinstance(trunk, open_clip.transformer.VisionTransformer):
        trunk.proj = None
        trunk.output_tokens = False
        class_token_only = pooling == "own" and uses_class_token_only(trunk)
        replace_image_blocks(trunk.transformer, class_token_only=class_token_only)
    elif isinstance(trunk, open_clip.timm_model.TimmModel):
        trunk.trunk.reset_classifier(0)
        trunk.head = nn.Sequential(
            *(part for name, part in trunk.head.named_children() if name == "pool")
        )
    return trunk


def _build_for_embeddings(
    name: str, config: dict[str, Any] | None, side: int, channels: int, pooling: Pooling
) -> nn.Module:
    """Build a tower whose patches are single embeddings; ValueError for a tower that cannot read them."""
    vision = {"timm_model_name": name} if config is None else config["vision_cfg"]
    if config is not None and isinstance(vision.get("layers"), int):
        trunk: Any = build_trunk(config | {"vision_cfg": vision | {"patch_size": 1}}, side, pooling)
        trunk.conv1 = nn.Conv2d(channels, trunk.conv1.out_channels, kernel_size=1, bias=False)
        return cast("nn.Module", trunk)
    if "timm_model_name" in vision and not name.startswith(corenet_vit.PREFIX):
        vit = _build_timm_for_embeddings(vision["timm_model_name"], side, channels)
        if vit is not None and config is None:
            return cast("nn.Module", vit)
        if vit is not None and config is not None:
            trunk = build_trunk(config, side, pooling)
            vit.reset_classifier(0, vision.get("timm_pool") or None)
            trunk.trunk = vit
            return cast("nn.Module", trunk)
    raise ValueError(
        f"tower {name!r} cannot read embeddings: its stem reads overlapping patches of pixels; accepted are towers of "
        "open_clip and timm with a patch embedding of one layer, such as ViTs, Eva, NaFlexViT and Swin"
    )


def _build_timm_for_embeddings(name: str, side: int, channels: int) -> Any:
    """Build a timm model with patches of one embedding; None for a stem that reads no single embeddings."""
    _require_timm_model(name)
    with suppress(TypeError, AssertionError, RuntimeError, ValueError):
        vit: Any = _create_timm_model(name, img_size=side, patch_size=1, in_chans=channels)
        # The second is NaFlexViT's.
        stem: Any = getattr(vit, "patch_embed", getattr(vit, "embeds", nn.Identity()))
        layers = [layer for layer in stem.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        if len(layers) == 1 and layers[0].weight[0].numel() == channels:
            return vit
    return None


def _build_timm(name: str, image_size: int, *, has_several_sizes: bool) -> nn.Module:
    """Build a timm model; a convolutional network has no image size, and some other models have no dynamic one."""
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
    if ":" in name or not timm.is_model(
        name
    ):  # timm asks a hub for "hf-hub:NAME" and reads a folder
        near = similar_names(name, [*open_clip.list_models(), *timm.list_models()])
        advice = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "their list_models() have the accepted names"
        )
        raise ValueError(f"no tower named {name!r} in open_clip or timm; {advice}")


def _feature_width(
    trunk: nn.Module,
    image_sizes: Sequence[int],
    channels: int,
    embed: Callable[[nn.Module, Tensor], Tensor] = lambda trunk, images: trunk(images),
) -> int:
    """Return the length of a trunk's feature from a forward without values; AssertionError if it gives no features."""
    tensors = [*trunk.parameters(), *trunk.buffers()]
    probe = copy.deepcopy(
        trunk, {id(tensor): tensor.detach().to("meta") for tensor in tensors}
    ).eval()
    with torch.no_grad(), torch.device("meta"), skip_repeated_blocks(probe):
        shapes = [embed(probe, torch.empty(1, channels, side, side)).shape for side in image_sizes]
    is_one_vector = len(shapes[0]) == 2  # noqa: PLR2004
    assert is_one_vector, f"a tower gives one feature per image, this one gives {tuple(shapes[0])}"
    return int(shapes[0][-1])
