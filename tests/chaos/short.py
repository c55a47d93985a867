"""Trainings of a second."""

from pathlib import Path

import torch

from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.records.record import Training
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.loop import train


def short_experiment(method: str, **changes: object) -> Experiment:
    """Return the tiny experiment of a method, with two steps of four images."""
    fewer = {"batch_size": 4, "images_seen": 8, "warmup_images": 4}
    return change(EXPERIMENTS[f"{method}-tiny"], **fewer | changes)


def train_in_process(
    experiment: Experiment, folder: Path, manager: CheckpointManager | None = None
) -> Training:
    """Train in this process; the tower is left in the folder."""
    budgets, tower = {"all": experiment.training.images_seen}, folder / "tower.safetensors"
    return train(experiment, torch.device("cpu"), folder, budgets, lambda _: tower, manager)
