"""The cost of accuracy (device seconds and energy of every tower) and its Pareto front."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.catalog import REFERENCES
from bench.transfer.score_tables import costs_of
from reports.accuracy.scores import FLOOR, Point
from reports.render.formats import NBSP, accuracy, count, listed, rate, seconds, times
from reports.render.frames import Comparison

MOST_TOLD = 3  # towers named in a sentence
UNTIMED = "its speed was not measured"
UNTRAINED = {FLOOR: "the random-init baseline", **dict(zip(REFERENCES, REFERENCES, strict=True))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A cost that accuracies are drawn against."""

    name: str  # for ids of charts
    told: str  # for sentences
    axis: str  # label of the axis
    write: Callable[[float], str]
    an_image: Mapping[str, float] | None  # the cost of an image in training, by experiment; None: images are the cost
    why_not: Mapping[str, str]  # the reason of an unknown cost, by experiment

    def of(self, point: Point) -> float | None:
        """Return the cost of a point; None where it was not measured."""
        if self.an_image is None:
            return float(point.images)
        each = self.an_image.get(point.subject)
        return None if each is None else each * point.images


IMAGES = Price(
    name="images",
    told="images seen",
    axis="images seen",
    write=lambda images: f"{count(images)} images",
    an_image=None,
    why_not={},
)


def prices(comparison: Comparison) -> tuple[Price, Price]:
    """Return device seconds and energy, as far as speed records hold them."""
    costs = costs_of(comparison.records)
    untimed = dict.fromkeys((name for name in comparison.experiments if name not in costs), UNTIMED)
    device = Price(
        name="seconds",
        told="device seconds",
        axis="seconds on this device",
        write=seconds,
        an_image={name: 1 / cost.rate for name, cost in costs.items()},
        why_not=untimed,
    )
    energy = Price(
        name="energy",
        told="energy",
        axis="kilojoules, of all devices",
        write=lambda kilojoules: f"{rate(kilojoules)}{NBSP}kJ",
        an_image={name: cost.joules / 1000 for name, cost in costs.items() if cost.joules is not None},
        why_not=untimed | {name: cost.why_no_joules for name, cost in costs.items() if cost.joules is None},
    )
    return device, energy


def on_front(points: Sequence[Point], price: Price) -> list[Point]:
    """Return the Pareto-optimal towers by means over seeds, the cheapest first.

    No other tower is at least as accurate and at least as cheap, and strictly better in one of the two.
    """
    paid = [(cost, -point.accuracy.value, point) for point in points if (cost := _paid(point, price)) is not None]
    front: list[Point] = []
    last, best = math.nan, -math.inf
    for cost, below, point in sorted(paid, key=lambda one: one[:2]):
        if -below > best or (cost, -below) == (last, best):
            front.append(point)
            last, best = cost, -below
    return front


def front_sentence(comparison: Comparison, points: Sequence[Point], price: Price) -> str:
    """Name the towers on the front, and the references that reach its highest accuracy without training."""
    front = on_front(points, price)
    paid = sum(_paid(point, price) is not None for point in points)
    costs = [price.write(price.of(point) or 0.0) for point in front]
    told = [
        f"{comparison.label(point.subject)} for {cost} ({accuracy(point.accuracy.value)})"
        for point, cost in zip(front, costs, strict=True)
    ]
    best = max((point.accuracy.value for point in front), default=math.inf)
    free = [UNTRAINED[p.subject] for p in points if p.subject in UNTRAINED and p.accuracy.value >= best]
    beaten = f" No tower is above {listed(free)}, which needs no training." if free else ""
    named = f": {listed(told)}" if len(told) <= MOST_TOLD else f", from {told[0]} to {told[-1]}"
    verb = "is" if len(front) == 1 else "are"
    return f"{len(front)} of {times(paid, 'tower')} {verb} on the front{named}.{beaten}"


def left_out(comparison: Comparison, subjects: Sequence[str], price: Price) -> list[str]:
    """Return the towers without this cost, grouped by reason."""
    reasons: dict[str, list[str]] = {}
    for subject in subjects:
        if subject not in (price.an_image or {}):
            reasons.setdefault(price.why_not.get(subject, UNTIMED), []).append(comparison.label(subject))
    return [f"{listed(names)}: {reason}" for reason, names in reasons.items()]


def _paid(point: Point, price: Price) -> float | None:
    return None if point.is_reference else price.of(point)
