"""SuperClass and SuperCLIP from checkouts of x-cls/superclass and hustvl/SuperCLIP, with the weights of our models."""

import copy
import importlib
import sys
import types
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.targets import Labels
from models import open_clip_config

# The folder of a checkout with its own open_clip, and the modules and classes of its model and loss.
RELEASED = {
    "superclass": ("opencls/open_clip", ("cls_model", "Classifier"), "ClsLoss"),
    "superclip": ("superclip/open_clip", ("superclip_model", "SuperCLIP"), "SuperClipLoss"),
}
THEIR_NAMES = {
    "tower.trunk.": "visual.",
    "projection": "visual.proj",
    "text.text.": "text.",
    "log_scale": "logit_scale",
    "head.0.": "text_decoder.ln_mlp.",
    "head.1.": "text_decoder.text_projection.",
}


def released_model_and_loss(method: str, checkout: Path, ours: Any) -> tuple[nn.Module, nn.Module]:
    """Build the released model with our weights, and the released loss for one process."""
    folder, (module, name), loss = RELEASED[method]
    # Their package imports what current libraries do not have.
    package = types.ModuleType(f"released_{method}")
    package.__path__ = [str(checkout / folder)]
    sys.modules[package.__name__] = package
    losses = importlib.import_module(f"{package.__name__}.loss")
    losses.dist = types.SimpleNamespace(  # one process
        all_reduce=lambda *_, **__: None,
        ReduceOp=types.SimpleNamespace(AVG=None),
        is_available=lambda: False,
    )
    rows = {"vocab_size": len(ours.counts.images_with_token)}
    config: Any = copy.deepcopy(open_clip_config("catlip-bench-tiny"))
    head = {"layers": 0, "mlp_ratio": 4, "context_length": 24} | rows
    if method == "superclass":
        config |= {"embed_dim": 0, "text_cfg": head}
        config["vision_cfg"] |= {"pool_type": "avg"}
    else:
        config |= {"text_cfg": config["text_cfg"] | rows, "clstext_cfg": head}
        config["vision_cfg"] |= {"output_tokens": True}
    theirs = getattr(importlib.import_module(f"{package.__name__}.{module}"), name)(
        **config
    ).double()
    weights = {
        their_name(one): value
        for one, value in ours.state_dict().items()
        if not one.startswith("counts.")
    }
    theirs.load_state_dict(theirs.state_dict() | weights)
    return theirs, getattr(losses, loss)(world_size=1)


def their_name(name: str) -> str:
    """Return the released name of one of our parameters."""
    for start, their_start in THEIR_NAMES.items():
        if name.startswith(start):
            return their_start + name.removeprefix(start)
    return name


def label_rows(labels: Labels) -> Tensor:
    """Return a row of tokens for each image, filled by repeating one of its own: the released targets have ones."""
    starts = labels.starts.tolist()
    rows = [labels.columns[first:last].tolist() for first, last in pairwise(starts)]
    longest = max(map(len, rows))
    return torch.tensor([row + row[:1] * (longest - len(row)) for row in rows])
