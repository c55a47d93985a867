"""Tower files in safetensors."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from models.external_weights import at_its_size
from models.identify_weights import looks_like, under
from models.image_tower import ImageTower
from models.weight_files import read_weights

MOST_NAMES = 3  # of weights, named for each kind of mismatch


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
    state = at_its_size(under("trunk.", read_weights(path)), tower.trunk)
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
    if wrong := "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in found.items() if names):
        raise ValueError(f"{otherwise}: {wrong}. They look like {looks_like(given or state)}")
    module.load_state_dict(own | dict(state))


def _names_to_disk(folder: Path) -> None:
    """Make a rename survive a power failure."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _some(names: list[str]) -> str:
    return ", ".join([*names[:MOST_NAMES], *(["…"] if len(names) > MOST_NAMES else [])])


def _shape(weight: Tensor) -> str:
    return "x".join(map(str, weight.shape)) or "a scalar"
