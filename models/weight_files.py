"""Files of weights that others wrote: tensors are read, and nothing in a file is executed."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# Where the checkpoints of open_clip, timm and CoreNet keep weights; a running average first, for it is what they score.
WITHIN = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file, or from what `torch.save` wrote of a state dict.

    Of a training's checkpoint the running average is taken where there is one. Names lose DDP's `module.`. Raises
    ValueError for a file that is none of these, or that asks for anything to be executed.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # of pickles that are refused or read all the same
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - what a broken pickle raises is not listed anywhere
        raise ValueError(f"{path} is not read: {_why(error)}") from None
    inner = [found[name] for name in WITHIN if isinstance(found.get(name), Mapping)] if isinstance(found, dict) else []
    named: Mapping[Any, Any] = inner[0] if inner else found if isinstance(found, Mapping) else {}
    tensors = {str(name).removeprefix("module."): value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no weights by name, but a {type(found).__name__}")
    return tensors


def _why(error: Exception) -> str:
    """Return in one line what was wrong."""
    told = str(error)
    if asked := re.search(r"GLOBAL (\S+)", told):
        return f"it asks for {asked[1]}, and only tensors are taken from a file"
    if "TorchScript" in told:
        return "it is a TorchScript archive, which is a program, and only tensors are taken from a file"
    if found := re.search(r"WeightsUnpickler error:\s*(.*)", told):  # torch goes on with how to execute it all the same
        return f"it is no pickle of tensors alone: {found[1]}"
    return f"{type(error).__name__}: {told.splitlines()[0] if told else 'damaged'}"
