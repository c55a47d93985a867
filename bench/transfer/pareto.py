"""The cost of accuracy (device seconds and energy of every tower) and its Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bench.interfaces.sections import ComparisonView
from bench.measure.throughput import rates_by_round, timed_runs_by_experiment
from bench.measure.timed_run import TimedRun
from bench.records.record import Speed
from bench.tables.formats import (
    NBSP,
    FormatNumber,
    format_count,
    format_duration,
    format_rate,
)
from bench.transfer.subject_scores import TowerOrReferenceAccuracy

POWERS = ("power W, by the energy counter", "power W")  # the more accurate first


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerCostAxis:
    """A cost of towers that accuracies are compared against, such as device seconds."""

    name: str  # for ids of charts
    title: str  # for sentences
    axis_label: str
    format_value: FormatNumber
    # The cost of an image in training, by experiment; None: images are the cost.
    cost_per_image: Mapping[str, float] | None = None

    def cost_of(self, tower: TowerOrReferenceAccuracy) -> float | None:
        """Return the cost of training a tower on the images that it has seen; None where it was not measured."""
        if self.cost_per_image is None:
            return float(tower.images_seen)
        cost_per_image = self.cost_per_image.get(tower.subject)
        if cost_per_image is None:
            return None
        return cost_per_image * tower.images_seen


IMAGES = TowerCostAxis(
    name="images",
    title="images seen",
    axis_label="images seen",
    format_value=lambda images: f"{format_count(images)} images",
)


def make_time_and_energy_cost_axes(
    comparison: ComparisonView,
) -> tuple[TowerCostAxis, TowerCostAxis]:
    """Return the axes of device seconds and of energy, with the costs that speed records hold.

    An image costs the seconds of the median images/s of the runs, and energy at the runs' mean power.
    """
    seconds = {}
    kilojoules = {}
    for name, runs in timed_runs_by_experiment(comparison.records).items():
        rates = rates_by_round(runs, TimedRun.images_per_second_preferably_undisturbed)
        rate = median(rates.values())
        seconds[name] = 1 / rate
        watts = _compute_mean_watts([run.speed for run in runs])
        if watts is not None:
            kilojoules[name] = watts / rate / 1000
    device = TowerCostAxis(
        name="seconds",
        title="device seconds",
        axis_label="seconds on this device",
        format_value=format_duration,
        cost_per_image=seconds,
    )
    energy = TowerCostAxis(
        name="energy",
        title="energy",
        axis_label="kilojoules, of all devices",
        format_value=lambda kilojoules: f"{format_rate(kilojoules)}{NBSP}kJ",
        cost_per_image=kilojoules,
    )
    return device, energy


def _compute_mean_watts(runs: Sequence[Speed]) -> float | None:
    """Return the mean power of all devices in watts; None where it was not measured in all runs."""
    for power in POWERS:
        if all(power in run.utilisation for run in runs):
            return fmean(run.utilisation[power] * run.processes for run in runs)
    return None


def pareto_front(
    points: Sequence[TowerOrReferenceAccuracy], cost_axis: TowerCostAxis
) -> list[TowerOrReferenceAccuracy]:
    """Return the Pareto-optimal trained towers by accuracy and cost, means over seeds, the cheapest first.

    No other tower is at least as accurate and at least as cheap, and strictly better in one of the two.
    """

    def position(tower: TowerOrReferenceAccuracy) -> tuple[float, float]:
        return cost_axis.cost_of(tower) or 0.0, -tower.accuracy.value

    trained = [point for point in points if not point.is_reference]
    towers = [tower for tower in trained if cost_axis.cost_of(tower) is not None]
    front = list[TowerOrReferenceAccuracy]()
    for tower in sorted(towers, key=position):
        is_better = not front or tower.accuracy.value > front[-1].accuracy.value
        if is_better or position(tower) == position(front[-1]):
            front.append(tower)
    return front
