"""The curves of training losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.data.image_sizes import images_before_step, nearest_step_count
from bench.experiment.config import Experiment
from bench.interfaces.sections import ComparisonRecords
from bench.records.record import Training

TRUNK = "trunk"
Point = tuple[int, float]  # images of all processes, loss in nats


@dataclass(frozen=True, slots=True)
class LossCurve:
    """The losses of a trunk or of a cool-down of one training."""

    seed: int
    part: str
    points: Sequence[Point]

    @property
    def is_trunk(self) -> bool:
        """Whether it is a trunk, which a constant learning rate trains."""
        return self.part == TRUNK


def loss_curves(comparison: ComparisonRecords, name: str, max_points: int = 120) -> list[LossCurve]:
    """Return the losses of the trainings of an experiment, averaged to at most `max_points` points per trunk.

    A point of a cool-down averages as many steps as one of its trunk.
    """
    curves = []
    for record, training in comparison.records_of(Training):
        experiment = record.experiment
        if experiment is not None and experiment.name == name:
            every = max(1, math.ceil(len(training.trunk_losses) / max_points))
            processes = record.circumstances.processes
            parts = loss_curve_parts(experiment, training, processes, every)
            for part, points in parts:
                if points:
                    curves.append(LossCurve(experiment.seed, part, points))
    return curves


def loss_curve_parts(
    experiment: Experiment, training: Training, processes: int, every: int = 1
) -> list[tuple[str, list[Point]]]:
    """Return the name and the points of the trunk and of each cool-down.

    Each `every` losses are averaged to one at the last of them.
    """
    steps_per_loss = training.steps_per_loss

    def curve(first_step: int, losses: Sequence[float]) -> list[Point]:
        points = []
        for start in range(0, len(losses), every):
            averaged = losses[start : start + every]
            step = first_step + steps_per_loss * (start + len(averaged))
            images = images_before_step(experiment, step) * processes
            points.append((images, fmean(averaged)))
        return points

    parts = [(TRUNK, curve(0, training.trunk_losses))]
    for branch, losses in zip(training.branches, training.cooldown_losses, strict=True):
        last_step = nearest_step_count(experiment, branch.images // processes)
        points = curve(last_step - steps_per_loss * len(losses), losses)
        parts.append((f"cool-down to {branch.images:,} images", points))
    return parts
