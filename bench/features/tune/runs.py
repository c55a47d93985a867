"""The run of one trial: a training, and the accuracy of its tower on validation parts."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.environment.circumstances import RunCircumstances, count_devices
from bench.experiment.config import Experiment
from bench.features.tune.records import Trial
from bench.profilers.clock import time_synchronized_block
from bench.records.record import EQUAL_IMAGES
from bench.train.loop import train
from bench.train.not_finite import NotFiniteError
from bench.transfer.classification.probe import validate_linear_probe
from bench.transfer.named_tasks import load_task
from bench.transfer.score import open_extractor


def run_trial(
    experiment: Experiment,
    device: torch.device,
    results: Path,
    circumstances: RunCircumstances,
    tasks: tuple[str, ...],
    root: str,
) -> Trial:
    """Train an experiment, and score its tower on the validation part of each task; the tower is not kept.

    A training whose loss is not finite has no accuracy.
    """
    images = experiment.training.images_seen
    accuracies = {}
    with (
        time_synchronized_block(device) as elapsed,
        suppress(NotFiniteError),
        TemporaryDirectory() as folder,
    ):
        tower = Path(folder) / "tower.safetensors"
        train(experiment, device, results, {EQUAL_IMAGES: images}, lambda _images: tower)
        extractor = open_extractor(str(tower), experiment, device)
        for name in tasks:
            accuracies[name] = validate_linear_probe(extractor, load_task(name, results, root))
    return Trial(
        images=images,
        device_seconds=elapsed.seconds * count_devices(circumstances),
        accuracies=accuracies,
    )
