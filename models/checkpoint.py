"""Weight files, which are read without executing code, and weights adapted to a trunk of their architecture."""

import mmap
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from open_clip.model import resize_pos_embed
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from safetensors.torch import load_file
from torch import Tensor, nn

from models.image_tower import ImageTower

MAX_NAMES = 3  # in a message
BLOCK_ELEMENTS = 2**20  # elements of a tensor that are checked at once
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# Keys of the weights in checkpoints of open_clip, timm and CoreNet; averaged weights first, because they are scored.
STATE_DICT_KEYS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
)
POSITIONS = "positional_embedding"  # of open_clip's vision transformer


def load_tower_weights(tower: ImageTower, path: Path) -> None:
    """Load weights into a tower of their architecture, also at another image size; ValueError for other weights."""
    state = adapt_to_image_size(strip_prefix("trunk.", read_weights(path)), tower.trunk)
    load_strictly(tower.trunk, state, f"{path} does not hold this tower's weights")


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], otherwise: str) -> None:
    """Load finite weights if names, shapes and kinds of numbers fit; batch counts of batch norms may be missing.

    The ValueError begins with `otherwise` and names the mismatches.
    """
    expected = module.state_dict()
    mismatches = {
        "missing": [
            name
            for name in expected
            if name not in state and not name.endswith(".num_batches_tracked")
        ],
        "left over": [name for name in state if name not in expected],
        "of another shape": [],
        "of another type": [],
        "not finite": [],
    }
    for name, own_value in expected.items():
        if name not in state:
            continue
        value = state[name]
        if value.shape != own_value.shape:
            mismatches["of another shape"].append(f"{name} {_shape(value)} for {_shape(own_value)}")
        if value.is_floating_point() != own_value.is_floating_point():
            mismatches["of another type"].append(f"{name} {_dtype(value)} for {_dtype(own_value)}")
        elif _count_not_finite(value.to(own_value.dtype)):
            mismatches["not finite"].append(name)
    wrong = [
        f"{len(names)} {kind} ({_first_names(names)})"
        for kind, names in mismatches.items()
        if names
    ]
    if wrong:
        raise ValueError(f"{otherwise}: {'; '.join(wrong)}")
    module.load_state_dict(expected | dict(state))


def require_finite(values: Tensor, noun: str) -> None:
    """Raise ValueError, which begins with `noun`, unless all values are finite floating-point numbers."""
    if not values.is_floating_point():
        raise ValueError(
            f"{noun} are of the type {_dtype(values)}, expected floating-point numbers"
        )
    count = _count_not_finite(values)
    if count:
        raise ValueError(f"{noun}: {count:,} of {values.numel():,} are not finite")


def _count_not_finite(values: Tensor) -> int:
    """Count block by block, because a mask of all values would take a quarter of their memory."""
    blocks: Sequence[Tensor] = torch.split(values.flatten(), BLOCK_ELEMENTS)
    return sum(block.numel() - int(block.isfinite().sum()) for block in blocks)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file, or from a state dict that `torch.save` wrote.

    From a training checkpoint the averaged weights are read, if there are any. DDP's prefix `module.` is removed from
    names. Raises ValueError for other files, and for files that would execute code.
    """
    content = _read_safely(path)
    state = content
    if isinstance(content, Mapping):
        inner = (content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping))
        state = next(inner, content)
    items = state.items() if isinstance(state, Mapping) else ()
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in items
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise ValueError(f"{path} holds no weights by name, but a {type(content).__name__}")
    unstored = [name for name, value in tensors.items() if not _is_stored(value)]
    if unstored:
        raise ValueError(f"{path} does not store all values of {_first_names(unstored)}")
    return tensors


def _read_safely(path: Path) -> Any:
    """Return what a file holds; ValueError, in one line, if it is damaged or holds more than tensors."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _require_no_decompression_bomb(path)
        with warnings.catch_warnings(action="ignore"):  # torch warns of some pickles
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - unpickling documents no exceptions
        raise ValueError(f"{path} is not read: {_describe_load_error(error)}") from None


def _require_no_decompression_bomb(path: Path) -> None:
    """Raise ValueError for what unpacks to more than the file: compressed members, or a pickle that asks for bytes.

    `torch.save` compresses nothing. The calls that `weights_only` lets build bytes are no part of tensors.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pickles: list[mmap.mmap | bytes] = [content]
        if content[:2] == b"PK":
            with zipfile.ZipFile(file) as archive:
                if sum(member.file_size for member in archive.infolist()) > len(content):
                    raise ValueError(
                        "its members are larger than the file, and torch.save compresses nothing"
                    )
                pickles = [
                    archive.read(name) for name in archive.namelist() if name.endswith(".pkl")
                ]
        for function in (b"bytearray", b"encode"):
            if any(pickled.find(b"\n%s\n" % function) >= 0 for pickled in pickles):
                raise ValueError(
                    f"it asks for {function.decode()}, and only tensors are taken from a file"
                )


def _is_stored(weight: Tensor) -> bool:
    """Return whether a file holds each value of a tensor, which may otherwise claim any size."""
    has_storage = weight.layout == torch.strided and not weight.is_meta
    return (
        has_storage and weight.numel() * weight.element_size() <= weight.untyped_storage().nbytes()
    )


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")


def _shape(weight: Tensor) -> str:
    return "x".join(map(str, weight.shape)) or "a scalar"


def _dtype(weight: Tensor) -> str:
    return str(weight.dtype).removeprefix("torch.")


def _describe_load_error(error: Exception) -> str:
    text = str(error)
    requested = re.search(r"GLOBAL (\S+)", text)
    if requested:
        return f"it asks for {requested[1]}, and only tensors are taken from a file"
    if "TorchScript" in text:
        return "it is a TorchScript archive, which is a program, and only tensors are taken from a file"
    # Torch then explains how to execute it anyway.
    reason = re.search(r"WeightsUnpickler error:\s*(.*)", text)
    if reason:
        return f"it is no pickle of tensors alone: {reason[1]}"
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'damaged'}"


def adapt_to_trunk(state: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """Return the weights for a trunk at its image size, without projection and classifier.

    The file may hold a whole model of open_clip, its image tower alone, or a timm model.
    """
    if isinstance(trunk, VisionTransformer | TimmModel | ModifiedResNet):
        image = strip_prefix("visual.", state) or state
        heads: tuple[str, ...] = ("head.proj.", "head.mlp.")
        left_out = "proj"
    else:
        timm_model: Any = trunk
        image = state
        classifier = timm_model.pretrained_cfg.get("classifier") or ()
        names = [classifier] if isinstance(classifier, str) else classifier
        heads = tuple(f"{name}." for name in names)
        left_out = ""
    resized = adapt_to_image_size(image, trunk)
    return {
        name: value
        for name, value in resized.items()
        if name != left_out and not name.startswith(heads)
    }


def adapt_to_image_size(state: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """Return weights with position embeddings resampled to the image size of a trunk.

    The code is that of the trunk's own library: open_clip's `resize_pos_embed` (bicubic over the grid, antialiased, the
    class token's unchanged), or the `checkpoint_filter_fn` of a timm model, which also converts other names. CoreNet's
    ViT interpolates in each forward. Weights of another architecture are returned unchanged.
    """
    weights = dict(state)
    if isinstance(trunk, VisionTransformer):
        table = weights.get(POSITIONS)
        if table is not None and table.shape[1:] == trunk.positional_embedding.shape[1:]:
            whole_model = {f"visual.{POSITIONS}": table}
            with suppress(RuntimeError):  # they are no floating-point numbers
                resize_pos_embed(whole_model, SimpleNamespace(visual=trunk))
            weights[POSITIONS] = whole_model[f"visual.{POSITIONS}"]
        return weights
    if isinstance(trunk, TimmModel):
        inner = adapt_to_image_size(strip_prefix("trunk.", weights), trunk.trunk)
        return {f"trunk.{name}": value for name, value in inner.items()}
    module = type(trunk).__module__
    if module.startswith("timm."):
        adapt = getattr(sys.modules[module], "checkpoint_filter_fn", None)
        if adapt is not None:
            with suppress(KeyError, RuntimeError, AssertionError, ValueError, TypeError):
                return dict(adapt(weights, trunk))
    return weights


def strip_prefix(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under a prefix, with the prefix removed from their names."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def describe_weights(state: Mapping[str, Tensor]) -> str:
    """Return the number of weights and the first names, by which a person recognises a model."""
    return f"{len(state)} weights, the first are {_first_names([*state])}"
