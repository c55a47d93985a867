"""The cost of accuracy (device seconds and energy of every tower) and its Pareto front."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bench.interfaces.sections import ComparisonRecords
from bench.measure.throughput import images_per_second, timed_runs_by_experiment
from bench.records.record import Speed
from bench.tables.formats import (
    NBSP,
    format_accuracy,
    format_count,
    format_duration,
    format_rate,
    join_with_and,
)
from bench.transfer.subject_scores import ScorePoint

POWERS = ("power W, by the energy counter", "power W")  # the more accurate first


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAxis:
    """A cost that accuracies are drawn against."""

    name: str  # for ids of charts
    title: str  # for sentences
    axis: str  # label of the axis
    write: Callable[[float], str]
    # The cost of an image in training, by experiment; None: images are the cost.
    per_image: Mapping[str, float] | None = None

    def of(self, point: ScorePoint) -> float | None:
        """Return the cost of a point; None where it was not measured."""
        if self.per_image is None:
            return float(point.images)
        cost_per_image = self.per_image.get(point.subject)
        if cost_per_image is None:
            return None
        return cost_per_image * point.images

    def format_cost(self, point: ScorePoint) -> str:
        """Write the cost of a point."""
        return self.write(self.of(point) or 0.0)


IMAGES = CostAxis(
    name="images",
    title="images seen",
    axis="images seen",
    write=lambda images: f"{format_count(images)} images",
)


def cost_axes(comparison: ComparisonRecords) -> tuple[CostAxis, CostAxis]:
    """Return device seconds and energy, as far as speed records hold them.

    An image costs the seconds of the median images/s of the runs, and energy at the runs' mean power.
    """
    seconds = {}
    kilojoules = {}
    for name, runs in timed_runs_by_experiment(comparison.records).items():
        rates = {speed.round: images_per_second(experiment, speed) for experiment, speed in runs}
        rate = median(rates.values())
        seconds[name] = 1 / rate
        watts = _mean_power([speed for _, speed in runs])
        if watts is not None:
            kilojoules[name] = watts / rate / 1000
    device = CostAxis(
        name="seconds",
        title="device seconds",
        axis="seconds on this device",
        write=format_duration,
        per_image=seconds,
    )
    energy = CostAxis(
        name="energy",
        title="energy",
        axis="kilojoules, of all devices",
        write=lambda kilojoules: f"{format_rate(kilojoules)}{NBSP}kJ",
        per_image=kilojoules,
    )
    return device, energy


def _mean_power(runs: Sequence[Speed]) -> float | None:
    """Return the mean power of all devices in watts; None where it was not measured in all runs."""
    for power in POWERS:
        if all(power in run.utilisation for run in runs):
            return fmean(run.utilisation[power] * run.processes for run in runs)
    return None


def pareto_front(points: Sequence[ScorePoint], cost_axis: CostAxis) -> list[ScorePoint]:
    """Return the Pareto-optimal towers by means over seeds, the cheapest first.

    No other tower is at least as accurate and at least as cheap, and strictly better in one of the two.
    """

    def position(tower: ScorePoint) -> tuple[float, float]:
        return cost_axis.of(tower) or 0.0, -tower.accuracy.value

    trained = [point for point in points if not point.is_reference]
    towers = [tower for tower in trained if cost_axis.of(tower) is not None]
    front = list[ScorePoint]()
    for tower in sorted(towers, key=position):
        is_better = not front or tower.accuracy.value > front[-1].accuracy.value
        if is_better or position(tower) == position(front[-1]):
            front.append(tower)
    return front


def describe_front(
    comparison: ComparisonRecords, points: Sequence[ScorePoint], cost_axis: CostAxis
) -> str:
    """Name the towers on the Pareto front, with their costs and accuracies."""
    towers = []
    for point in pareto_front(points, cost_axis):
        label = comparison.label(point.subject)
        accuracy = format_accuracy(point.accuracy.value)
        towers.append(f"{label} for {cost_axis.format_cost(point)} with {accuracy}")
    return f"On the Pareto front: {join_with_and(towers)}."
