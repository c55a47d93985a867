"""Weight files, which are read without executing code, and weights adapted to a trunk of their architecture."""

import mmap
import pickle
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from open_clip.model import resize_pos_embed
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import StateDict

MAX_REASON = 300  # characters of torch's reason in a message
# Keys of the weights in checkpoints of open_clip, timm and CoreNet; averaged weights first, because they are scored.
STATE_DICT_KEYS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
)


def load_finite_weights_strictly(module: nn.Module, state: StateDict, error_prefix: str) -> None:
    """Load weights of the module's names and shapes, which must be finite; batch norms' counts may be missing.

    The ValueError begins with `error_prefix`.
    """
    for name, target in module.state_dict().items():
        if name in state and target.is_floating_point():
            require_finite(state[name], f"{error_prefix}: the values of {name}")
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), MAX_REASON, placeholder=" …")
        raise ValueError(f"{error_prefix}: {reason}") from None


def save_tensors(state: StateDict, path: Path) -> None:
    """Write tensors by name to a safetensors file, without a copy in memory; OSError if the disk is full."""
    tensors = {name: value.detach().contiguous() for name, value in state.items()}
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(f"{path} is not written: {error}") from None


def require_finite(values: Tensor, noun: str) -> None:
    """Raise ValueError unless all values are finite floating-point numbers; its message begins with `noun`."""
    are_finite = values.is_floating_point()
    if are_finite and values.numel() > 0:
        # Without a mask as large as the tensor; `aminmax` returns NaN if one value is.
        are_finite = all(bound.isfinite() for bound in values.aminmax())
    if not are_finite:
        raise ValueError(f"{noun} are not finite floating-point numbers")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file, or from a state dict that `torch.save` wrote.

    From a training checkpoint the averaged weights are read, if there are any. DDP's prefix `module.` is removed from
    names. Raises ValueError for other files, and for files that would execute code.
    """
    content = _read_without_executing_code(path)
    state = content if isinstance(content, Mapping) else {}
    for key in STATE_DICT_KEYS:
        if isinstance(state.get(key), Mapping):
            state = state[key]
            break
    tensors = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            name = str(key).removeprefix("module.")
            if not _is_stored_in_full(value):
                raise ValueError(f"{path} does not store all values of {name}")
            tensors[name] = value
    if not tensors:
        raise ValueError(f"{path} holds no weights by name, but a {type(content).__name__}")
    return tensors


def _read_without_executing_code(path: Path) -> Any:
    """Return the content of a weight file; ValueError, in one line, if it is damaged or holds more than tensors."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _require_no_decompression_bomb(path)
        with warnings.catch_warnings(action="ignore"):  # torch warns of some pickles
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and nothing in a file is executed"
        ) from None
    except Exception as error:  # noqa: BLE001 - unpickling documents no exceptions
        reason, _, _ = str(error).partition("\n")
        raise ValueError(f"{path} is not read: {reason}") from None


def _require_no_decompression_bomb(path: Path) -> None:
    """Raise ValueError for what unpacks to more than the file: compressed members, or a pickle that asks for bytes.

    `torch.save` compresses nothing. The calls that `weights_only` lets build bytes are no part of tensors.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pickles: list[mmap.mmap | bytes] = [content]
        if content[:2] == b"PK":
            with zipfile.ZipFile(file) as archive:
                unpacked_size = sum(member.file_size for member in archive.infolist())
                if unpacked_size > len(content):
                    raise ValueError("its members are larger than the file")
                names = [name for name in archive.namelist() if name.endswith(".pkl")]
                pickles = [archive.read(name) for name in names]
        for pickled in pickles:
            if pickled.find(b"\nbytearray\n") >= 0 or pickled.find(b"\nencode\n") >= 0:
                raise ValueError("it asks for bytes, and only tensors are taken from a file")


def _is_stored_in_full(weight: Tensor) -> bool:
    """Return whether every value of a tensor is in its storage; a file may claim a larger shape."""
    if weight.layout != torch.strided or weight.is_meta:
        return False
    return weight.nbytes <= weight.untyped_storage().nbytes()


def adapt_weights_to_trunk(state: StateDict, trunk: nn.Module) -> dict[str, Tensor]:
    """Return the weights that a trunk takes, at its image size and without projection and classifier.

    The file may hold a whole model of open_clip, its image tower alone, or a timm model.
    """
    timm_config = getattr(trunk, "pretrained_cfg", {})
    classifiers = timm_config.get("classifier") or ()  # a name, or several
    if isinstance(classifiers, str):
        classifiers = [classifiers]
    left_out = ["proj", "head.proj", "head.mlp", *classifiers]
    prefixes = tuple(f"{name}." for name in left_out)
    image_tower = select_and_strip_prefix("visual.", state) or state
    resized = resample_position_embeddings(image_tower, trunk)
    names = [name for name in resized if not f"{name}.".startswith(prefixes)]
    return {name: resized[name] for name in names}


def resample_position_embeddings(state: StateDict, trunk: nn.Module) -> dict[str, Tensor]:
    """Return weights with position embeddings resampled to the image size of a trunk.

    The trunk's own library resamples them: open_clip's `resize_pos_embed` (bicubic over the grid, antialiased; the
    class token keeps its embedding), or the `checkpoint_filter_fn` of a timm model, which also converts other names.
    CoreNet's ViT interpolates in each forward. Weights of another architecture are returned unchanged.
    """
    if isinstance(trunk, TimmModel):
        inner = resample_position_embeddings(select_and_strip_prefix("trunk.", state), trunk.trunk)
        return {f"trunk.{name}": value for name, value in inner.items()}
    with suppress(KeyError, RuntimeError, AssertionError, ValueError, TypeError):
        if isinstance(trunk, VisionTransformer):
            whole_model = {f"visual.{name}": value for name, value in state.items()}
            resize_pos_embed(whole_model, SimpleNamespace(visual=trunk))
            return select_and_strip_prefix("visual.", whole_model)
        module = sys.modules[type(trunk).__module__]
        adapt = getattr(module, "checkpoint_filter_fn", None)
        if adapt is not None:
            return dict(adapt(dict(state), trunk))
    return dict(state)


def select_and_strip_prefix(prefix: str, state: StateDict) -> dict[str, Tensor]:
    """Return the weights whose names have the prefix, under their names without it."""
    names = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): state[name] for name in names}
