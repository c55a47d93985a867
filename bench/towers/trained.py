"""Towers from their files, and the teacher of a distillation experiment."""

from pathlib import Path

from bench.config import Experiment
from bench.console.console import PROGRAM
from bench.environment.seeds import TEACHER, TOWER, seed_for
from bench.towers.made import Provenance, read_provenance
from models.checkpoint import load_weights
from models.image_tower import ImageTower, build_image_tower

SUFFIX = ".safetensors"


def load_trained_tower(path: Path, image_size: int | None = None) -> tuple[ImageTower, Provenance]:
    """Return a tower that was trained here, and its metadata; ValueError for a file without it.

    For another image size the position embeddings are resampled.
    """
    provenance = read_provenance(path)
    of = provenance.experiment
    seed, channels = seed_for(of.seed, TOWER), of.embedding_channels
    tower = build_image_tower(of.tower, image_size or of.image_size, seed, embedding_channels=channels)
    if not next(tower.parameters()).is_meta:  # FLOPs are counted without weights
        load_weights(tower, path)
    return tower, provenance


def build_teacher(experiment: Experiment) -> ImageTower:
    """Build an experiment's teacher: a trained tower from a file, or an untrained tower by its name.

    ValueError for a missing file, a file without a tower, or a name that no library has.
    """
    teacher = experiment.teacher
    if not teacher.endswith(SUFFIX):
        return build_image_tower(teacher, experiment.image_size, seed_for(experiment.seed, TEACHER))
    if not Path(teacher).is_file():
        raise ValueError(f"no tower file {teacher!r} for a teacher; `{PROGRAM} train` writes tower files")
    return load_trained_tower(Path(teacher))[0]
