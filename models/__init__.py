"""Towers, heads and their weights; open_clip's model configurations, including this project's own."""

from pathlib import Path
from typing import Any

import open_clip

open_clip.add_model_config(Path(__file__).parent / "configs")


def open_clip_config(name: str) -> dict[str, Any] | None:
    """Return the configuration of one of open_clip's own models, or None for any other name.

    open_clip itself also reads the folder of a name with `local-dir:` and asks a hub for one with `hf-hub:`.
    """
    return open_clip.get_model_config(name) if name in open_clip.list_models() else None
