"""Tower files in safetensors, and weight files from other sources, which are read without executing code."""

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from models.external_weights import resize_positions
from models.identify_weights import identify, strip_prefix
from models.image_tower import ImageTower

MAX_NAMES = 3  # of weights, named for each kind of mismatch
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# Keys of the weights in checkpoints of open_clip, timm and CoreNet; averaged weights first, because they are scored.
WITHIN = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model")


def save_tower(state: Mapping[str, Tensor], path: Path, facts: dict[str, str]) -> None:
    """Write a tower's state dict atomically, with metadata."""
    temporary = path.with_name(f".{path.name}.part")  # there is one writer; the file of a killed writer is overwritten
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        with temporary.open(
            "wb"
        ) as file:  # `save_file` would write to a temporary name of its own, which a kill would leave
            file.write(save(weights, metadata=facts))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _names_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(tower: ImageTower, path: Path) -> None:
    """Load weights into a tower of their architecture, also at another image size; ValueError for other weights."""
    state = resize_positions(strip_prefix("trunk.", read_weights(path)), tower.trunk)
    load_exactly(tower.trunk, state, f"{path} does not hold this tower's weights")


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], otherwise: str, given: Mapping[str, Tensor] | None = None
) -> None:
    """Load weights of which none is missing, left over or of another shape; batch counts of batch norms may be missing.

    The ValueError begins with `otherwise`, names the mismatches and says what the `given` weights look like.
    """
    own = module.state_dict()
    found = {
        "missing": [name for name in own if name not in state and not name.endswith(".num_batches_tracked")],
        "left over": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {_shape(state[name])} for {_shape(own[name])}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    if wrong := "; ".join(f"{len(names)} {kind} ({_select(names)})" for kind, names in found.items() if names):
        raise ValueError(f"{otherwise}: {wrong}. They look like {identify(given or state)}")
    module.load_state_dict(own | dict(state))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file, or from a state dict that `torch.save` wrote.

    From a training checkpoint the averaged weights are read, if there are any. DDP's prefix `module.` is removed from
    names. Raises ValueError for other files, and for files that would execute code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # torch warns of some pickles
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - unpickling documents no exceptions
        raise ValueError(f"{path} is not read: {_why(error)}") from None
    inner = [found[name] for name in WITHIN if isinstance(found.get(name), Mapping)] if isinstance(found, dict) else []
    named: Mapping[Any, Any] = inner[0] if inner else found if isinstance(found, Mapping) else {}
    tensors = {str(name).removeprefix("module."): value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no weights by name, but a {type(found).__name__}")
    return tensors


def _names_to_disk(folder: Path) -> None:
    """Make a rename survive a power failure."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _select(names: list[str]) -> str:
    return ", ".join([*names[:MAX_NAMES], *(["…"] if len(names) > MAX_NAMES else [])])


def _shape(weight: Tensor) -> str:
    return "x".join(map(str, weight.shape)) or "a scalar"


def _why(error: Exception) -> str:
    """Return the reason in one line."""
    text = str(error)
    if asked := re.search(r"GLOBAL (\S+)", text):
        return f"it asks for {asked[1]}, and only tensors are taken from a file"
    if "TorchScript" in text:
        return "it is a TorchScript archive, which is a program, and only tensors are taken from a file"
    if found := re.search(r"WeightsUnpickler error:\s*(.*)", text):  # torch then explains how to execute it anyway
        return f"it is no pickle of tensors alone: {found[1]}"
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'damaged'}"
