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
    warnings, towers = list[str](), [experiment.image.tower]
    if get_method(experiment.method).has_teacher and Path(experiment.targets.teacher).suffix != ".safetensors":
        towers.append(experiment.targets.teacher)
    sides = (
        {experiment.image.image_size, *experiment.image.image_sizes}
        if experiment.image.embedding_channels is None
        else ()
    )
    for tower, side in product(towers, sorted(sides)):
        patch, published = patch_and_image_size(tower)
        if patch is None or not (rest := side % patch):
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
    library = cast("Any", find_spec("open_clip")).origin
    folders = CHECKOUT / "models" / "configs", Path(library).parent / "model_configs"
    files = (folder / f"{tower}.json" for folder in folders if Path(tower).name == tower)
    file = next((file for file in files if file.is_file()), None)
    vision = {} if file is None else json.loads(file.read_bytes())["vision_cfg"]
    found = re.search(r"patch(\d+)(?:.*?_(\d+)(?=\.|$))?", vision.get("timm_model_name", tower))
    patch, size = (text and int(text) for text in found.groups()) if found else (None, None)
    return vision.get("patch_size", patch), vision.get("image_size", size)
