"""Towers from their files, and the tower that a student learns from."""

from pathlib import Path

from bench.config import Experiment
from bench.console.console import PROGRAM
from bench.environment.seeds import TEACHER, TOWER, seed_for
from bench.towers.made import Made, how_made
from models.checkpoint import load_weights
from models.image_tower import ImageTower, build_image_tower

SUFFIX = ".safetensors"


def trained_tower(path: Path, image_size: int | None = None) -> tuple[ImageTower, Made]:
    """Return a tower that a training left, and how it came about; ValueError where the file does not say.

    For another image size its position embeddings are resampled.
    """
    made = how_made(path)
    of = made.experiment
    seed, channels = seed_for(of.seed, TOWER), of.embedding_channels
    tower = build_image_tower(of.tower, image_size or of.image_size, seed, embedding_channels=channels)
    if not next(tower.parameters()).is_meta:  # where FLOPs are counted, no weight is read
        load_weights(tower, path)
    return tower, made


def build_teacher(experiment: Experiment) -> ImageTower:
    """Build an experiment's teacher: a trained tower from its file, or by its name one that is untrained.

    ValueError for a file that is not there or holds no tower, or a name that no library has.
    """
    teacher = experiment.teacher
    if not teacher.endswith(SUFFIX):
        return build_image_tower(teacher, experiment.image_size, seed_for(experiment.seed, TEACHER))
    if not Path(teacher).is_file():
        raise ValueError(f"no tower file {teacher!r} to teach with; `{PROGRAM} train` leaves some")
    return trained_tower(Path(teacher))[0]
