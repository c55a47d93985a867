"""Towers, heads and their weights; open_clip's model configurations, including this project's own."""

from pathlib import Path
from typing import Any

import open_clip

open_clip.add_model_config(Path(__file__).parent / "configs")


def open_clip_config(name: str) -> dict[str, Any] | None:
    """Return an open_clip model's configuration, or None for a name that open_clip does not have."""
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    return config
