"""The teacher of a distillation experiment."""

from pathlib import Path

from bench.console.console import PROGRAM
from bench.environment.seeds import TEACHER, derive_seed
from bench.experiment.fields import RANDOM_TEACHER
from bench.towers.tower_from import load_tower_and_provenance
from models.image_tower import ImageTower, build_image_tower


def build_teacher(teacher: str, image_size: int, experiment_seed: int) -> ImageTower:
    """Build a teacher: the tower of a file, or an untrained tower "random:NAME".

    The size, in pixels, and the seed are of an untrained tower. ValueError for a missing file, a file without a tower,
    or a name that no library has.
    """
    if teacher.startswith(RANDOM_TEACHER):
        seed = derive_seed(experiment_seed, TEACHER)
        return build_image_tower(teacher.removeprefix(RANDOM_TEACHER), image_size, seed)
    file = Path(teacher)
    if not file.is_file():
        raise ValueError(
            f"no tower file {teacher!r} for a teacher (`{PROGRAM} train` writes them); "
            f"{RANDOM_TEACHER}NAME has random weights"
        )
    tower, _ = load_tower_and_provenance(file)
    return tower
