"""Functions of runs that combine parts of this project: training, and measurements of extensions."""

from contextlib import nullcontext
from pathlib import Path

import torch

from bench.console.console import StopRequest
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.experiment.config import Experiment
from bench.interfaces.measurement import get_measurement
from bench.records.record import MeasuredFigures, Training, record_path
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import CheckpointConfig, lock_training_folder
from bench.train.loop import train


def pretrain(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    comparison: str,
    images_by_budget: dict[str, int],
    checkpoint_config: CheckpointConfig | None,
    stop: StopRequest | None,
) -> Training:
    """Train to `images_by_budget`, which are images of all ranks by name, and write a tower for each.

    With checkpoints, a signal saves the state and ends the process by SystemExit.
    """

    def tower_path(images: int) -> Path:
        names = (experiment.name, f"seed{experiment.seed}", images)
        return record_path(results, comparison, "tower", *names).with_suffix(".safetensors")

    if checkpoint_config is None or stop is None:
        return train(experiment, device, results, images_by_budget, tower_path)
    is_writer = read_torchrun_ranks().rank == 0
    with lock_training_folder(Path(checkpoint_config.folder)) if is_writer else nullcontext():
        manager = CheckpointManager(checkpoint_config, comparison, stop)
        return train(experiment, device, results, images_by_budget, tower_path, manager)


def measure_extension_values(
    experiment: Experiment, device: torch.device, results: Path, measurement: str, round_: int
) -> MeasuredFigures:
    """Measure the figures of a measurement that an extension adds."""
    chosen = get_measurement(measurement)
    values = chosen.measure_finite_values(experiment, device, results)
    return MeasuredFigures(
        measurement=chosen.name,
        title=chosen.title,
        round=round_,
        figures=tuple(chosen.figures),
        values=values,
    )
