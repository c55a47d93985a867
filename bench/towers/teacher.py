"""The teacher of a distillation experiment."""

from pathlib import Path

from bench.console.console import PROGRAM
from bench.environment.seeds import TEACHER, derive_seed
from bench.towers.tower_from import load_tower_and_provenance
from models.image_tower import ImageTower, build_image_tower


def build_teacher(name_or_file: str, image_size: int, experiment_seed: int) -> ImageTower:
    """Build a teacher: a trained tower from a .safetensors file, or an untrained tower by its name.

    The size, in pixels, and the seed are of an untrained tower. ValueError for a missing file, a file without a tower,
    or a name that no library has.
    """
    if not name_or_file.endswith(".safetensors"):
        seed = derive_seed(experiment_seed, TEACHER)
        return build_image_tower(name_or_file, image_size, seed)
    file = Path(name_or_file)
    if not file.is_file():
        raise ValueError(
            f"no tower file {name_or_file!r} for a teacher; `{PROGRAM} train` writes tower files"
        )
    tower, _ = load_tower_and_provenance(file)
    return tower
