"""Whether a tower's patches cover an experiment's images, by the tower's name. No torch here."""

import json
import re
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, cast

from bench.environment.circumstances import CHECKOUT
from bench.experiment.config import Experiment
from bench.interfaces.method import get_method

CORENET_PATCH = 16  # px; its three convolutions have strides 4, 2 and 2


def check_whole_patches(experiment: Experiment) -> list[str]:
    """Return warnings about pixels that no patch covers where the tower was published with such images.

    Raises ValueError for other images with such pixels, with the sizes that fit. A teacher that is named and no file
    reads the same images.
    """
    image = experiment.image
    if image.embedding_channels is not None:
        return []
    towers = [image.tower]
    if (
        get_method(experiment.method).has_teacher
        and Path(experiment.targets.teacher).suffix != ".safetensors"
    ):
        towers.append(experiment.targets.teacher)
    warnings = list[str]()
    for tower, side in product(towers, sorted({image.image_size, *image.image_sizes})):
        patch, published = patch_and_image_size(tower)
        rest = 0 if patch is None else side % patch
        if patch is None or rest == 0:
            continue
        text = f"{experiment.name}: patches of {patch} px of the tower {tower} leave {rest} of {side} px uncovered"
        if side != published:
            fitting = " or ".join(str(size) for size in (side - rest, side - rest + patch) if size)
            raise ValueError(f"{text}; sizes that fit: {fitting}")
        warnings.append(f"{text}, as in the published tower")
    return warnings


def patch_and_image_size(tower: str) -> tuple[int | None, int | None]:
    """Return the sides in pixels of a tower's patches and of the images it was published for; None: unknown.

    open_clip's configurations and this project's hold them, and timm's names: vit_base_patch16_224. A convolutional
    network has no patches.
    """
    if tower.startswith("corenet-vit-"):
        return CORENET_PATCH, None
    vision = _open_clip_vision_config(tower)
    match = re.search(r"patch(\d+)(?:.*?_(\d+)(?=\.|$))?", vision.get("timm_model_name", tower))
    patch = int(match[1]) if match else None
    size = int(match[2]) if match and match[2] else None
    return vision.get("patch_size", patch), vision.get("image_size", size)


def _open_clip_vision_config(tower: str) -> dict[str, Any]:
    """Return the configuration of a vision tower of open_clip or of this project; empty for other names."""
    if Path(tower).name != tower:
        return {}
    library = Path(cast("Any", find_spec("open_clip")).origin).parent
    for folder in (CHECKOUT / "models" / "configs", library / "model_configs"):
        file = folder / f"{tower}.json"
        if file.is_file():
            vision: dict[str, Any] = json.loads(file.read_bytes())["vision_cfg"]
            return vision
    return {}
