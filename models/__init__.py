"""Towers, heads and their weights; open_clip's model configurations, including this project's own."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
from jaxtyping import Float
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

Images = Float[Tensor, "batch channels height width"]  # normalised, or grids of embeddings
# As a batch has them: `Images`, or with several views of an image (batch, views, channels, height, width).
ImagesOrViews = Float[Tensor, "batch *views channels height width"]
Features = Float[Tensor, "batch features"]  # of a tower, before any projection
StateDict = Mapping[str, Tensor]  # weights and buffers by name

open_clip.add_model_config(Path(__file__).parent / "configs")


def find_open_clip_config(name: str) -> dict[str, Any] | None:
    """Return the configuration of one of open_clip's own models, or None for any other name.

    open_clip itself also reads the folder of a name with `local-dir:` and asks a hub for one with `hf-hub:`.
    """
    return open_clip.get_model_config(name) if name in open_clip.list_models() else None


def format_similar_names(name: str, names: Sequence[str]) -> str:
    """Return "; did you mean A or B?" with at most two names that are similar to `name`; empty if none is."""
    similar = get_close_matches(name, names, n=2, cutoff=0.75)
    return f"; did you mean {' or '.join(similar)}?" if similar else ""


def unwrap_timm_trunk(trunk: nn.Module) -> Any:
    """Return the timm model in open_clip's wrapper; a trunk without the wrapper is returned unchanged."""
    return trunk.trunk if isinstance(trunk, TimmModel) else trunk
