"""The curves of training losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from bench.data.image_sizes import BatchShapeSchedule, make_batch_shape_schedule
from bench.interfaces.sections import ComparisonView
from bench.records.record import Training

TRUNK = "trunk"


class MeanLossPoint(NamedTuple):
    """The mean loss of the steps since the previous point."""

    images: int  # seen by all processes at the last of these steps
    loss: float  # nats


@dataclass(frozen=True, slots=True)
class LossCurve:
    """The losses of a trunk or of a cool-down of one training."""

    seed: int
    part: str  # TRUNK, or the name of the cool-down
    points: Sequence[MeanLossPoint]
    # From which a cool-down branches off; None: it is a trunk, or there is none.
    trunk_point: MeanLossPoint | None


def collect_loss_curves(
    comparison: ComparisonView, experiment_name: str, max_points: int = 120
) -> list[LossCurve]:
    """Return the losses of all trainings of an experiment, averaged to at most `max_points` points a curve.

    All points of a training average equally many steps. A training with a cosine schedule has no trunk.
    """
    curves = []
    for record, training in comparison.records_and_contents_of(Training):
        experiment = record.experiment
        if experiment is not None and experiment.name == experiment_name:
            parts = (training.trunk_losses, *training.cooldown_losses)
            most_losses = max(len(losses) for losses in parts)
            losses_per_point = max(1, math.ceil(most_losses / max_points))
            points_by_part = trunk_and_cooldown_points(
                make_batch_shape_schedule(experiment),
                training,
                record.circumstances.processes,
                losses_per_point,
            )
            trunk = points_by_part[TRUNK]
            for part, points in points_by_part.items():
                if points:
                    before = [point for point in trunk if point.images < points[0].images]
                    trunk_point = before[-1] if before else None
                    curves.append(LossCurve(experiment.seed, part, points, trunk_point))
    return curves


def trunk_and_cooldown_points(
    batch_shapes: BatchShapeSchedule, training: Training, processes: int, losses_per_point: int = 1
) -> dict[str, list[MeanLossPoint]]:
    """Return the points of the trunk and of each cool-down by name; a point is the mean of so many losses."""

    def average(first_step: int, losses: Sequence[float]) -> list[MeanLossPoint]:
        points = []
        for start in range(0, len(losses), losses_per_point):
            averaged = losses[start : start + losses_per_point]
            num_losses = start + len(averaged)
            last_step = first_step + num_losses
            images = batch_shapes.images_per_device_before(last_step) * processes
            points.append(MeanLossPoint(images, fmean(averaged)))
        return points

    points_by_part = {TRUNK: average(0, training.trunk_losses)}
    for branch, losses in zip(training.branches, training.cooldown_losses, strict=True):
        last_step = batch_shapes.nearest_step_count(branch.images // processes)
        first_step = last_step - len(losses)
        part = f"cool-down to {branch.images:,} images"
        points_by_part[part] = average(first_step, losses)
    return points_by_part
