"""The cost of accuracy (device seconds and energy of every tower) and its Pareto front."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bench.interfaces.catalog import LOWER_BOUNDS, RANDOM_INIT
from bench.interfaces.sections import ComparisonRecords
from bench.measure.comparison_records import UNTIMED
from bench.measure.throughput import images_per_second, timed_runs
from bench.records.record import Speed
from bench.tables.formats import (
    NBSP,
    format_accuracy,
    format_bracketed_interval,
    format_count,
    format_rate,
    format_seconds,
    join_words,
    pluralize,
)
from bench.transfer.subject_scores import ScorePoint

POWERS = ("power W, by the energy counter", "power W")  # the more accurate first
WHOLE_READER = "GPU"  # key of the reason where the device could not be opened
MOST_NAMED = 3  # towers named in a sentence
UNTRAINED = {
    RANDOM_INIT: "the random-init baseline",
    **dict(zip(LOWER_BOUNDS, LOWER_BOUNDS, strict=True)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAxis:
    """A cost that accuracies are drawn against."""

    name: str  # for ids of charts
    title: str  # for sentences
    axis: str  # label of the axis
    write: Callable[[float], str]
    # The cost of an image in training, by experiment; None: images are the cost.
    per_image: Mapping[str, float] | None
    unknown_reasons: Mapping[str, str]  # the reason of an unknown cost, by experiment

    def of(self, point: ScorePoint) -> float | None:
        """Return the cost of a point; None where it was not measured."""
        if self.per_image is None:
            return float(point.images)
        cost_per_image = self.per_image.get(point.subject)
        return None if cost_per_image is None else cost_per_image * point.images

    def format_cost(self, point: ScorePoint) -> str:
        """Write the cost of a point."""
        return self.write(self.of(point) or 0.0)


IMAGES = CostAxis(
    name="images",
    title="images seen",
    axis="images seen",
    write=lambda images: f"{format_count(images)} images",
    per_image=None,
    unknown_reasons={},
)


def cost_axes(comparison: ComparisonRecords) -> tuple[CostAxis, CostAxis]:
    """Return device seconds and energy, as far as speed records hold them.

    An image costs the seconds of the median images/s of the runs, and energy at the runs' mean power.
    """
    seconds = dict[str, float]()
    kilojoules = dict[str, float]()
    no_energy = dict[str, str]()
    for name, runs in timed_runs(comparison.records).items():
        rate = median(
            {
                speed.round: images_per_second(experiment, speed) for experiment, speed in runs
            }.values()
        )
        seconds[name] = 1 / rate
        watts = _mean_power([speed for _, speed in runs])
        if isinstance(watts, str):
            no_energy[name] = watts
        else:
            kilojoules[name] = watts / rate / 1000
    untimed = dict.fromkeys(
        (name for name in comparison.experiments if name not in seconds), UNTIMED
    )
    device = CostAxis(
        name="seconds",
        title="device seconds",
        axis="seconds on this device",
        write=format_seconds,
        per_image=seconds,
        unknown_reasons=untimed,
    )
    energy = CostAxis(
        name="energy",
        title="energy",
        axis="kilojoules, of all devices",
        write=lambda kilojoules: f"{format_rate(kilojoules)}{NBSP}kJ",
        per_image=kilojoules,
        unknown_reasons=untimed | no_energy,
    )
    return device, energy


def _mean_power(runs: Sequence[Speed]) -> float | str:
    """Return the mean power of all devices in watts, or the reason why it is unknown."""
    for power in POWERS:
        if all(power in run.utilisation for run in runs):
            return fmean(run.utilisation[power] * run.processes for run in runs)
    names = (*POWERS, WHOLE_READER)
    reasons = dict.fromkeys(
        run.not_measured[name] for run in runs for name in names if name in run.not_measured
    )
    return "; ".join(reasons) or "this device has no counter of power or energy"


def pareto_front(points: Sequence[ScorePoint], cost_axis: CostAxis) -> list[ScorePoint]:
    """Return the Pareto-optimal towers by means over seeds, the cheapest first.

    No other tower is at least as accurate and at least as cheap, and strictly better in one of the two.
    """

    def position(tower: ScorePoint) -> tuple[float, float]:
        return cost_axis.of(tower) or 0.0, -tower.accuracy.value

    towers = [point for point in points if _cost_if_trained(point, cost_axis) is not None]
    front = list[ScorePoint]()
    for tower in sorted(towers, key=position):
        is_better = not front or tower.accuracy.value > front[-1].accuracy.value
        if is_better or position(tower) == position(front[-1]):
            front.append(tower)
    return front


def describe_front(
    comparison: ComparisonRecords, points: Sequence[ScorePoint], cost_axis: CostAxis
) -> str:
    """Name the towers on the front, and the references that reach its highest accuracy without training."""
    front = pareto_front(points, cost_axis)
    paid = sum(_cost_if_trained(point, cost_axis) is not None for point in points)
    towers = [
        f"{comparison.label(point.subject)} for {cost_axis.format_cost(point)} with "
        f"{format_accuracy(point.accuracy.value)}{format_bracketed_interval(point.accuracy, format_accuracy)}"
        for point in front
    ]
    best = max((point.accuracy.value for point in front), default=math.inf)
    free = [
        UNTRAINED[p.subject] for p in points if p.subject in UNTRAINED and p.accuracy.value >= best
    ]
    verb_of_free = "needs" if len(free) == 1 else "need"
    beaten = (
        f" No tower is above {join_words(free)}, which {verb_of_free} no training." if free else ""
    )
    named = (
        f": {join_words(towers)}"
        if len(towers) <= MOST_NAMED
        else f", from {towers[0]} to {towers[-1]}"
    )
    verb = "is" if len(front) == 1 else "are"
    return f"{len(front)} of {pluralize(paid, 'tower')} {verb} on the front{named}.{beaten}"


def describe_unknown_costs(
    comparison: ComparisonRecords, subjects: Sequence[str], cost_axis: CostAxis
) -> list[str]:
    """Return the towers without this cost, grouped by reason."""
    unpriced = [subject for subject in subjects if subject not in (cost_axis.per_image or {})]
    reasons = dict[str, list[str]]()
    for subject in unpriced:
        reasons.setdefault(cost_axis.unknown_reasons.get(subject, UNTIMED), []).append(subject)
    return [
        f"{join_words([*map(comparison.label, names)])}: {reason}"
        for reason, names in reasons.items()
    ]


def _cost_if_trained(point: ScorePoint, cost_axis: CostAxis) -> float | None:
    return None if point.is_reference else cost_axis.of(point)
