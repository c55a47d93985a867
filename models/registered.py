"""open_clip's model configurations, this project's own among them."""

from pathlib import Path
from typing import Any

import open_clip

open_clip.add_model_config(Path(__file__).parent / "configs")


def open_clip_config(name: str) -> dict[str, Any] | None:
    """Return an open_clip model's configuration, or None where open_clip has no such model."""
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    return config
