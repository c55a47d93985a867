"""The teacher of a distillation experiment."""

from pathlib import Path

from bench.console.console import PROGRAM
from bench.environment.seeds import TEACHER, derive_seed
from bench.experiment.config import Experiment
from bench.towers.tower_from import load_trained_tower
from models.image_tower import ImageTower, build_image_tower


def build_teacher(experiment: Experiment) -> ImageTower:
    """Build an experiment's teacher: a trained tower from a file, or an untrained tower by its name.

    ValueError for a missing file, a file without a tower, or a name that no library has.
    """
    teacher = experiment.targets.teacher
    if not teacher.endswith(".safetensors"):
        return build_image_tower(
            teacher, experiment.image.image_size, derive_seed(experiment.seed, TEACHER)
        )
    if not Path(teacher).is_file():
        raise ValueError(
            f"no tower file {teacher!r} for a teacher; `{PROGRAM} train` writes tower files"
        )
    tower, _ = load_trained_tower(Path(teacher))
    return tower
