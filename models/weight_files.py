"""Read weight files from other sources; nothing in a file is executed."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# Keys of the weights in checkpoints of open_clip, timm and CoreNet; averaged weights first, because they are scored.
WITHIN = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model")


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


def _why(error: Exception) -> str:
    """Return the reason in one line."""
    told = str(error)
    if asked := re.search(r"GLOBAL (\S+)", told):
        return f"it asks for {asked[1]}, and only tensors are taken from a file"
    if "TorchScript" in told:
        return "it is a TorchScript archive, which is a program, and only tensors are taken from a file"
    if found := re.search(r"WeightsUnpickler error:\s*(.*)", told):  # torch then explains how to execute it anyway
        return f"it is no pickle of tensors alone: {found[1]}"
    return f"{type(error).__name__}: {told.splitlines()[0] if told else 'damaged'}"
