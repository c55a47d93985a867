"""Tower files in safetensors, and weight files from other sources, which are read without executing code.

Weights that were trained elsewhere are identified, for error messages, and adapted to a trunk of their architecture.
"""

import mmap
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from open_clip.model import resize_pos_embed
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from safetensors.torch import load_file
from torch import Tensor, nn

from models import corenet_vit, open_clip_config
from models.image_tower import TIMM_SIZES, ImageTower

MAX_NAMES = 3  # in a message
BLOCK_ROWS = 2**13  # of a matrix that are checked at once
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# Keys of the weights in checkpoints of open_clip, timm and CoreNet; averaged weights first, because they are scored.
WITHIN = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model")
POSITIONS = "visual.positional_embedding"  # in a whole model of open_clip


def load_tower_weights(tower: ImageTower, path: Path) -> None:
    """Load weights into a tower of their architecture, also at another image size; ValueError for other weights."""
    state = adapt_to_image_size(strip_prefix("trunk.", read_weights(path)), tower.trunk)
    load_strictly(tower.trunk, state, f"{path} does not hold this tower's weights")


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], otherwise: str, given: Mapping[str, Tensor] | None = None
) -> None:
    """Load finite weights of which none is missing, left over, or of another shape or kind of number.

    Batch counts of batch norms may be missing. The ValueError begins with `otherwise`, names the mismatches and says
    what the `given` weights look like.
    """
    own = module.state_dict()
    pairs = {name: (state[name], own[name]) for name in own if name in state}
    found = {
        "missing": [name for name in own if name not in state and not name.endswith(".num_batches_tracked")],
        "left over": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {_shape(value)} for {_shape(mine)}"
            for name, (value, mine) in pairs.items()
            if value.shape != mine.shape
        ],
        "of another type": [
            f"{name} {_dtype(value)} for {_dtype(mine)}"
            for name, (value, mine) in pairs.items()
            if value.is_floating_point() != mine.is_floating_point()
        ],
        "not finite": [
            name
            for name, (value, mine) in pairs.items()
            if not value.is_complex() and _count_not_finite(value.to(mine.dtype))
        ],
    }
    if wrong := "; ".join(f"{len(names)} {kind} ({_join_first(names)})" for kind, names in found.items() if names):
        raise ValueError(f"{otherwise}: {wrong}. They look like {identify(given or state)}")
    module.load_state_dict(own | dict(state))


def require_finite(values: Tensor, what: str) -> None:
    """Raise ValueError, which begins with `what`, unless all values are finite floating-point numbers."""
    if not values.is_floating_point():
        raise ValueError(f"{what} are of the type {_dtype(values)}, expected floating-point numbers")
    if count := _count_not_finite(values):
        raise ValueError(f"{what}: {count:,} of {values.numel():,} are not finite")


def _count_not_finite(values: Tensor) -> int:
    blocks: Sequence[Tensor] = torch.split(values.reshape(values.shape or (1,)), BLOCK_ROWS)
    return sum(block.numel() - int(block.isfinite().sum()) for block in blocks)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file, or from a state dict that `torch.save` wrote.

    From a training checkpoint the averaged weights are read, if there are any. DDP's prefix `module.` is removed from
    names. Raises ValueError for other files, and for files that would execute code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _require_no_decompression_bomb(path)
        with warnings.catch_warnings(action="ignore"):  # torch warns of some pickles
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - unpickling documents no exceptions
        raise ValueError(f"{path} is not read: {_describe_load_error(error)}") from None
    inner = [found[name] for name in WITHIN if isinstance(found.get(name), Mapping)] if isinstance(found, dict) else []
    named: Mapping[Any, Any] = inner[0] if inner else found if isinstance(found, Mapping) else {}
    tensors = {str(name).removeprefix("module."): value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no weights by name, but a {type(found).__name__}")
    if unstored := [name for name, value in tensors.items() if not _is_stored(value)]:
        raise ValueError(f"{path} does not store all values of {_join_first(unstored)}")
    return tensors


def _require_no_decompression_bomb(path: Path) -> None:
    """Raise ValueError for what unpacks to more than the file: compressed members, or a pickle that asks for bytes.

    `torch.save` compresses nothing. The calls that `weights_only` lets build bytes are no part of tensors.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pickles: list[mmap.mmap | bytes] = [content]
        if content[:2] == b"PK":
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > len(content):
                    raise ValueError("its members are larger than the file, and torch.save compresses nothing")
                pickles = [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]
        for asked in (b"bytearray", b"encode"):
            if any(pickled.find(b"\n%s\n" % asked) >= 0 for pickled in pickles):
                raise ValueError(f"it asks for {asked.decode()}, and only tensors are taken from a file")


def _is_stored(weight: Tensor) -> bool:
    """Return whether a file holds each value of a tensor, which may otherwise claim any size."""
    has_storage = weight.layout == torch.strided and not weight.is_meta
    return has_storage and weight.numel() * weight.element_size() <= weight.untyped_storage().nbytes()


def _join_first(names: list[str]) -> str:
    return ", ".join([*names[:MAX_NAMES], *(["…"] if len(names) > MAX_NAMES else [])])


def _shape(weight: Tensor) -> str:
    return "x".join(map(str, weight.shape)) or "a scalar"


def _dtype(weight: Tensor) -> str:
    return str(weight.dtype).removeprefix("torch.")


def _describe_load_error(error: Exception) -> str:
    text = str(error)
    if asked := re.search(r"GLOBAL (\S+)", text):
        return f"it asks for {asked[1]}, and only tensors are taken from a file"
    if "TorchScript" in text:
        return "it is a TorchScript archive, which is a program, and only tensors are taken from a file"
    if found := re.search(r"WeightsUnpickler error:\s*(.*)", text):  # torch then explains how to execute it anyway
        return f"it is no pickle of tensors alone: {found[1]}"
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'damaged'}"


def adapt_to_trunk(state: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """Return the weights for a trunk at its image size, without projection and classifier.

    The file may hold a whole model of open_clip, its image tower alone, or a timm model.
    """
    if isinstance(trunk, VisionTransformer | TimmModel | ModifiedResNet):
        image, heads = strip_prefix("visual.", state) or state, ("head.proj.", "head.mlp.")
        resized = adapt_to_image_size(image, trunk)
        return {name: value for name, value in resized.items() if name != "proj" and not name.startswith(heads)}
    described: Any = trunk
    classifier = described.pretrained_cfg.get("classifier") or ()
    names = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    return {name: value for name, value in adapt_to_image_size(state, trunk).items() if not name.startswith(names)}


def adapt_to_image_size(state: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """Return weights with position embeddings resampled to the image size of a trunk.

    The code is that of the trunk's own library: open_clip's `resize_pos_embed` (bicubic over the grid, antialiased, the
    class token's unchanged), or the `checkpoint_filter_fn` of a timm model, which also converts other names. CoreNet's
    ViT interpolates in each forward. Weights of another architecture are returned unchanged.
    """
    weights = dict(state)
    if isinstance(trunk, VisionTransformer):
        table = weights.get("positional_embedding")
        if table is not None and table.shape[1:] == trunk.positional_embedding.shape[1:]:
            whole = {POSITIONS: table}
            with suppress(RuntimeError):  # they are no floating-point numbers
                resize_pos_embed(whole, SimpleNamespace(visual=trunk))
            weights["positional_embedding"] = whole[POSITIONS]
    elif isinstance(trunk, TimmModel):
        inner = adapt_to_image_size(strip_prefix("trunk.", weights), trunk.trunk)
        return {f"trunk.{name}": value for name, value in inner.items()}
    elif (module := type(trunk).__module__).startswith("timm."):
        adapt = getattr(sys.modules[module], "checkpoint_filter_fn", lambda state, _: state)
        with suppress(KeyError, RuntimeError, AssertionError, ValueError, TypeError):
            weights = adapt(weights, trunk)
    return weights


def strip_prefix(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under a prefix, with the prefix removed from their names."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def identify(state: Mapping[str, Tensor]) -> str:
    """Return a description of the model that these weights probably belong to."""
    image = strip_prefix("trunk.", state) or strip_prefix("visual.", state) or dict(state)
    image = strip_prefix("trunk.", image) or image
    describe_by_weight: dict[str, Callable[[Mapping[str, Tensor]], str]] = {
        corenet_vit.STEM: _describe_corenet,
        f"encoder.{corenet_vit.STEM}": lambda _: "a segmentation or detection model of CoreNet's",
        "vision_model.embeddings.patch_embedding.weight": lambda _: "a CLIP or SigLIP of the transformers library",
        "class_embedding": _describe_open_clip,
        "patch_embed.proj.weight": _describe_timm,
        "layer1.0.conv1.weight": lambda _: "a ResNet",
        "token_embedding.weight": lambda _: "a text tower",
    }
    for name, describe in describe_by_weight.items():
        if name in image:
            with suppress(IndexError, TypeError, ValueError):  # weights with too few dimensions
                return describe(image)
    return f"no known architecture (the first names are {', '.join(list(state)[:MAX_NAMES])})"


def _describe_corenet(state: Mapping[str, Tensor]) -> str:
    width, layers = state[corenet_vit.STEM].shape[0], _count_blocks("transformer.", state)
    sizes = [size for size, width_and_layers in corenet_vit.SIZES.items() if width_and_layers == (width, layers)]
    name = corenet_vit.PREFIX + sizes[0] if sizes else f"a CoreNet ViT {width} wide with {layers} blocks"
    classes = f", {len(state['classifier.weight']):,} classes" if "classifier.weight" in state else ""
    return f"{name}{classes}"


def _describe_timm(image: Mapping[str, Tensor]) -> str:
    width, _, patch, _ = image["patch_embed.proj.weight"].shape
    size = TIMM_SIZES.get(width, f"{width}-wide")
    return f"timm's vit_{size}_patch{patch} with {_count_blocks('blocks.', image)} blocks"


def _describe_open_clip(image: Mapping[str, Tensor]) -> str:
    if "conv1.weight" not in image:
        return "a part of an open_clip ViT"
    width, _, patch, _ = image["conv1.weight"].shape
    layers = _count_blocks("transformer.resblocks.", image)
    sizes = {"width": width, "layers": layers, "patch_size": patch}
    configs = {name: open_clip_config(name) or {} for name in open_clip.list_models()}
    names = [name for name, config in configs.items() if sizes.items() <= config["vision_cfg"].items()]
    if names:
        return f"open_clip's {' or '.join(sorted(names, key=len)[:MAX_NAMES])}"
    return f"an open_clip ViT {width} wide with {layers} blocks, patches of {patch}"


def _count_blocks(prefix: str, state: Mapping[str, Tensor]) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
