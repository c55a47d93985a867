"""Towers on disk: safetensors, never a pickle."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from torch import Tensor

from models.image_tower import ImageTower


def save_tower(state: Mapping[str, Tensor], path: Path, facts: dict[str, str]) -> None:
    """Write a tower's weights (its state) atomically, with facts about what made it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        save_file(weights, temporary, metadata=facts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_weights(tower: ImageTower, path: Path) -> None:
    """Read weights into a tower built for them; ValueError where the file holds others."""
    try:
        load_model(tower, path)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold this tower's weights: {error}") from None
