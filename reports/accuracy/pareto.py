"""The cost of accuracy (device seconds and energy of every tower) and its Pareto front."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.catalog import RANDOM_INIT, REFERENCES
from bench.formats import (
    NBSP,
    format_accuracy,
    format_bracketed_interval,
    format_count,
    format_rate,
    format_seconds,
    join_words,
    pluralize,
)
from bench.sections import ComparisonRecords
from bench.transfer.score_tables import image_costs
from reports.accuracy.scores import ScorePoint
from reports.render.frames import UNTIMED, group_by

MOST_NAMED = 3  # towers named in a sentence
NO_TRAINING = {1: "which needs no training", 2: "neither of which needs training"}  # by the number of references
UNTRAINED = {RANDOM_INIT: "the random-init baseline", **dict(zip(REFERENCES, REFERENCES, strict=True))}


@dataclass(frozen=True, slots=True, kw_only=True)
class CostAxis:
    """A cost that accuracies are drawn against."""

    name: str  # for ids of charts
    title: str  # for sentences
    axis: str  # label of the axis
    write: Callable[[float], str]
    per_image: Mapping[str, float] | None  # the cost of an image in training, by experiment; None: images are the cost
    unknown_reasons: Mapping[str, str]  # the reason of an unknown cost, by experiment

    def of(self, point: ScorePoint) -> float | None:
        """Return the cost of a point; None where it was not measured."""
        if self.per_image is None:
            return float(point.images)
        each = self.per_image.get(point.subject)
        return None if each is None else each * point.images

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
    """Return device seconds and energy, as far as speed records hold them."""
    costs = image_costs(comparison.records)
    untimed = dict.fromkeys((name for name in comparison.experiments if name not in costs), UNTIMED)
    device = CostAxis(
        name="seconds",
        title="device seconds",
        axis="seconds on this device",
        write=format_seconds,
        per_image={name: 1 / cost.rate for name, cost in costs.items()},
        unknown_reasons=untimed,
    )
    energy = CostAxis(
        name="energy",
        title="energy",
        axis="kilojoules, of all devices",
        write=lambda kilojoules: f"{format_rate(kilojoules)}{NBSP}kJ",
        per_image={name: cost.joules / 1000 for name, cost in costs.items() if cost.joules is not None},
        unknown_reasons=untimed | {name: cost.why_no_joules for name, cost in costs.items() if cost.joules is None},
    )
    return device, energy


def pareto_front(points: Sequence[ScorePoint], cost_axis: CostAxis) -> list[ScorePoint]:
    """Return the Pareto-optimal towers by means over seeds, the cheapest first.

    No other tower is at least as accurate and at least as cheap, and strictly better in one of the two.
    """
    costs = [(_cost_if_trained(point, cost_axis), -point.accuracy.value, point) for point in points]
    paid = [(cost, below, point) for cost, below, point in costs if cost is not None]
    front: list[ScorePoint] = []
    last, best = math.nan, -math.inf
    for cost, below, point in sorted(paid, key=lambda one: one[:2]):
        if -below > best or (cost, -below) == (last, best):
            front.append(point)
            last, best = cost, -below
    return front


def describe_front(comparison: ComparisonRecords, points: Sequence[ScorePoint], cost_axis: CostAxis) -> str:
    """Name the towers on the front, and the references that reach its highest accuracy without training."""
    front = pareto_front(points, cost_axis)
    paid = sum(_cost_if_trained(point, cost_axis) is not None for point in points)
    towers = [
        f"{comparison.label(point.subject)} for {cost_axis.format_cost(point)} with "
        f"{format_accuracy(point.accuracy.value)}{format_bracketed_interval(point.accuracy, format_accuracy)}"
        for point in front
    ]
    best = max((point.accuracy.value for point in front), default=math.inf)
    free = [UNTRAINED[p.subject] for p in points if p.subject in UNTRAINED and p.accuracy.value >= best]
    without = NO_TRAINING.get(len(free), "none of which needs training")
    beaten = f" No tower is above {' or '.join(free)}, {without}." if free else ""
    named = f": {join_words(towers)}" if len(towers) <= MOST_NAMED else f", from {towers[0]} to {towers[-1]}"
    verb = "is" if len(front) == 1 else "are"
    return f"{len(front)} of {pluralize(paid, 'tower')} {verb} on the front{named}.{beaten}"


def describe_unknown_costs(comparison: ComparisonRecords, subjects: Sequence[str], cost_axis: CostAxis) -> list[str]:
    """Return the towers without this cost, grouped by reason."""
    unpriced = [subject for subject in subjects if subject not in (cost_axis.per_image or {})]
    reasons = group_by(unpriced, lambda subject: cost_axis.unknown_reasons.get(subject, UNTIMED))
    return [f"{join_words([*map(comparison.label, names)])}: {reason}" for reason, names in reasons.items()]


def _cost_if_trained(point: ScorePoint, cost_axis: CostAxis) -> float | None:
    return None if point.is_reference else cost_axis.of(point)
