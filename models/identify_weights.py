"""Identify the architecture of weights, for error messages."""

from collections.abc import Callable, Mapping

import open_clip
from torch import Tensor

from models import corenet_vit, open_clip_config

MAX_NAMES = 3  # in a message
TIMM_SIZES = {
    192: "tiny",
    384: "small",
    768: "base",
    1024: "large",
    1280: "huge",
}  # timm's names of ViT sizes, by width


def identify(state: Mapping[str, Tensor]) -> str:
    """Return a description of the model that these weights probably belong to."""
    image = strip_prefix("trunk.", state) or strip_prefix("visual.", state) or dict(state)
    image = strip_prefix("trunk.", image) or image
    known: dict[str, Callable[[Mapping[str, Tensor]], str]] = {
        corenet_vit.STEM: _corenet,
        f"encoder.{corenet_vit.STEM}": lambda _: "a segmentation or detection model of CoreNet's",
        "vision_model.embeddings.patch_embedding.weight": lambda _: "a CLIP or SigLIP of the transformers library",
        "class_embedding": _open_clip,
        "patch_embed.proj.weight": _timm,
        "layer1.0.conv1.weight": lambda _: "a ResNet",
        "token_embedding.weight": lambda _: "a text tower",
    }
    for mark, describe in known.items():
        if mark in image:
            return describe(image)
    return f"no known architecture (the first names are {', '.join(list(state)[:MAX_NAMES])})"


def strip_prefix(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under a prefix, with the prefix removed from their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _corenet(state: Mapping[str, Tensor]) -> str:
    width, layers = state[corenet_vit.STEM].shape[0], _blocks("transformer.", state)
    sizes = [size for size, of in corenet_vit.SIZES.items() if of == (width, layers)]
    name = corenet_vit.PREFIX + sizes[0] if sizes else f"a CoreNet ViT {width} wide with {layers} blocks"
    classes = f", {len(state['classifier.weight']):,} classes" if "classifier.weight" in state else ""
    return f"{name}{classes}"


def _timm(image: Mapping[str, Tensor]) -> str:
    width, _, patch, _ = image["patch_embed.proj.weight"].shape
    size = TIMM_SIZES.get(width, f"{width}-wide")
    return f"timm's vit_{size}_patch{patch} with {_blocks('blocks.', image)} blocks"


def _open_clip(image: Mapping[str, Tensor]) -> str:
    if "conv1.weight" not in image:
        return "a part of an open_clip ViT"
    width, _, patch, _ = image["conv1.weight"].shape
    layers = _blocks("transformer.resblocks.", image)
    wanted = {"width": width, "layers": layers, "patch_size": patch}
    configs = {name: open_clip_config(name) or {} for name in open_clip.list_models()}
    names = [name for name, config in configs.items() if wanted.items() <= config["vision_cfg"].items()]
    likely = " or ".join(sorted(names, key=len)[:MAX_NAMES])
    return (
        f"open_clip's {likely}" if likely else f"an open_clip ViT {width} wide with {layers} blocks, patches of {patch}"
    )


def _blocks(prefix: str, state: Mapping[str, Tensor]) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
