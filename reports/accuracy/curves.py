"""The charts of learning: accuracy against what it cost, and the losses of training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation, Transform

from reports.accuracy.pareto import IMAGES, Price, on_front
from reports.accuracy.scores import FLOOR, Estimate, Point, Scored, points, tasks
from reports.render.formats import accuracy
from reports.render.frames import Comparison, losses_frame
from reports.render.svg import INK, LINE, MUTED, PAPER, dodged, drawing, hovered, shown, svg
from reports.speed.charts import series_colour, series_index, series_marker, thousands

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, FOOT, TOP = 30, 152, 44, 8
SHORT = 0.5  # an axis of accuracy up to this long is marked at each tenth
LABEL_GAP = 15.5  # units between two labels' middles
REFERENCE_DASHES = ((4.0, 3.0), (1.0, 2.5), (7.0, 2.0, 1.0, 2.0), (2.0, 6.0))
LOSS_HEIGHT = 220
SHIFT = 4.0  # units between the marks of two subjects at the same place
CHANCE = "commonest class"


@dataclass(frozen=True, slots=True)
class Look:
    """How a subject is drawn; `beside` moves its marks to the side, in SVG units; `ringed` points have a ring."""

    colour: str
    marker: str
    beside: float
    ringed: Sequence[Point]
    told: str  # where the marks are pointed at


def accuracy_chart(
    comparison: Comparison, answers: Sequence[Scored], task: str, protocol: str, price: Price, name: str = "accuracy"
) -> Markup:
    """Draw one task's accuracies against a price, with the front of those that nothing beats for less.

    Against images there is no front: they cost each method another time. `name` keeps ids apart.
    """
    found = [p for p in points(answers, task, protocol) if p.is_reference or price.of(p) is not None]
    majority = next(one.score.majority for one in answers if one.score.task == task)
    front = [] if price is IMAGES else on_front(found, price)
    with drawing(WIDTH, HEIGHT) as figure:
        axes = labelled_axes(figure)
        lowest = _axes_of_accuracy(axes, found, price)
        labels = [_reference(axes, index, *line) for index, line in enumerate(_references(found, majority, lowest))]
        _front(axes, front, price)
        start = next((point.accuracy.value for point in found if point.subject == FLOOR), None)
        subjects = dict.fromkeys(point.subject for point in found if not point.is_reference)
        for index, subject in enumerate(subjects):
            own = sorted((point for point in found if point.subject == subject), key=lambda point: point.images)
            colour, marker = series_colour(comparison, subject), series_marker(comparison, subject)
            costs = [price.of(point) or 0.0 for point in own]
            beside = SHIFT * (index - (len(subjects) - 1) / 2)
            told = f"{comparison.label(subject)}: {_bought(own, price)}"
            _line(axes, own, costs, start, Look(colour, marker, beside, front, told))
            labels.append((comparison.label(subject), own[-1].accuracy.value, colour))
        write_labels(axes, labels)
        last = "; ".join(f"{label} {accuracy(value)}" for label, value, _ in labels)
        heard = f"{task}: accuracy by {protocol} against {price.told}. At the last point: {last}."
        if front:
            on = (f"{comparison.label(point.subject)} {_bought([point], price)}" for point in front)
            heard += f" On the Pareto front: {'; '.join(on)}."
        return svg(figure, f"{name}-{price.name}-{tasks(answers).index(task)}", heard)


def loss_chart(comparison: Comparison, experiment: str) -> Markup:
    """Draw an experiment's losses, all its seeds, cool-downs branching off the trunk."""
    frame = losses_frame(comparison, of=experiment)
    with drawing(WIDTH, LOSS_HEIGHT) as figure:
        axes = figure.add_axes((48 / WIDTH, 44 / LOSS_HEIGHT, 1 - 64 / WIDTH, 1 - 56 / LOSS_HEIGHT))
        for _, run in frame.groupby("seed", sort=False):
            trunk = run[run["part"] == "trunk"]
            for part, curve in run.groupby("part", sort=False):
                colour = series_colour(comparison, experiment) if part == "trunk" else INK
                before = trunk[trunk["images"] < curve["images"].iloc[0]].tail(1)  # where it branches off
                joined = pd.concat([before, curve])
                axes.plot(joined["images"], joined["loss"], color=colour, linewidth=1.5, alpha=0.8)
        axes.set_xlim(left=0)
        axes.yaxis.grid(visible=True)
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("images seen")
        axes.set_ylabel("loss, nats")
        losses = frame[frame["part"] == "trunk"]["loss"]
        told = f"The trunk begins at {losses.iloc[0]:.4g} and ends at {losses.iloc[-1]:.4g}." if len(losses) else ""
        name = f"loss-{series_index(comparison, experiment)}"
        return svg(figure, name, f"Training loss of {comparison.label(experiment)} in nats. {told}")


def _axes_of_accuracy(axes: Axes, found: Sequence[Point], price: Price) -> float:
    """Scale the price from zero, and accuracy from a tenth beneath all figures; return that."""
    furthest = max((price.of(point) or 0.0 for point in found if not point.is_reference), default=1.0)
    axes.set_xlim(0, 1.04 * (furthest or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.set_xlabel(price.axis)
    highest = max([point.accuracy.high or point.accuracy.value for point in found], default=1.0)
    lowest = min([point.accuracy.low or point.accuracy.value for point in found], default=0.0)
    return scale_accuracy(axes, highest, lowest)


def labelled_axes(figure: Figure) -> Axes:
    """Open axes with room for labels at their right."""
    return figure.add_axes((LEFT / WIDTH, FOOT / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (FOOT + TOP) / HEIGHT))


def scale_accuracy(axes: Axes, highest: float, lowest: float = 0.0) -> float:
    """Scale from the next tenth beneath all figures to the next above; return the lower end."""
    bottom, top = int(lowest * 10) / 10, min(1.0, (int(highest * 10) + 1) / 10)
    axes.set_ylim(bottom, top)
    axes.yaxis.grid(visible=True)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MultipleLocator(0.1 if top - bottom <= SHORT else 0.2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}".removeprefix("0") if value else "0"))
    return bottom


def _front(axes: Axes, front: Sequence[Point], price: Price) -> None:
    """Draw the highest accuracy that so much has bought, as steps."""
    if front:
        costs = [price.of(point) or 0.0 for point in front]
        values = [point.accuracy.value for point in front]
        ends = [*costs, axes.get_xlim()[1]], [*values, values[-1]]
        axes.plot(*ends, drawstyle="steps-post", color=INK, linewidth=1.5, alpha=0.8)


def _bought(found: Sequence[Point], price: Price) -> str:
    return ", ".join(f"{accuracy(point.accuracy.value)} for {price.write(price.of(point) or 0.0)}" for point in found)


def _references(found: Sequence[Point], majority: float, lowest: float) -> list[tuple[str, float]]:
    """Return what was not trained; the commonest class only where that is no lower than the axis."""
    names = {FLOOR: "untrained tower"}
    lines = [(names.get(p.subject, p.subject), p.accuracy.value) for p in found if p.is_reference]
    return [*lines, *([(CHANCE, majority)] if majority >= lowest else [])]


def _reference(axes: Axes, index: int, name: str, value: float) -> tuple[str, float, str]:
    dashes = REFERENCE_DASHES[index % len(REFERENCE_DASHES)]
    axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, dashes))
    return name, value, MUTED


def _line(axes: Axes, own: Sequence[Point], costs: Sequence[float], start: float | None, look: Look) -> None:
    """Draw one subject's points with intervals, set beside other subjects' so that they do not hide one another."""
    values = [point.accuracy.value for point in own]
    beside = aside(axes, look.beside)
    x, y = ([0.0, *costs], [start, *values]) if start is not None else (costs, values)
    axes.plot(x, y, color=look.colour, linewidth=1.25, alpha=0.25 if look.ringed else 0.5, clip_on=False)
    draw_intervals(axes, costs, [point.accuracy for point in own], look.colour, beside)
    for point, at in zip(own, costs, strict=True):
        if len(point.runs) > 1:
            seeds = [run.accuracy for run in point.runs]
            axes.plot([at] * len(seeds), seeds, "_", color=look.colour, markersize=5, transform=beside, clip_on=False)
    marks = axes.plot(costs, values, look.marker, color=look.colour, markersize=6.5, transform=beside, clip_on=False)
    marks[0].set(markeredgecolor=PAPER, markeredgewidth=0.75)
    hovered(marks[0], look.told)
    rings = [(at, value) for point, at, value in zip(own, costs, values, strict=True) if point in look.ringed]
    if rings:
        ring = axes.plot(*zip(*rings, strict=True), "o", color="none", markersize=12, transform=beside, clip_on=False)
        ring[0].set(markeredgecolor=INK, markeredgewidth=1)


def draw_intervals(
    axes: Axes, places: Sequence[float], found: Sequence[Estimate], colour: str, moved: Transform
) -> None:
    """Draw the intervals that there are as upright lines, no further than accuracies go."""
    x, y = list[float](), list[float]()
    for at, one in zip(places, found, strict=True):
        if one.low is not None and one.high is not None:
            x += [at, at, math.nan]
            y += [max(0.0, one.low), min(1.0, one.high), math.nan]
    if x:
        axes.plot(x, y, color=colour, linewidth=1.25, alpha=0.7, transform=moved, clip_on=False)


def aside(axes: Axes, units: float) -> Transform:
    """Return the data's coordinates moved to the side, in SVG units."""
    assert axes.figure is not None
    return axes.transData + ScaledTranslation(units / 72, 0, axes.figure.dpi_scale_trans)


def write_labels(axes: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Write names and last figures at the right, moved apart, each tied to its value by a thin line."""
    height, (bottom, top) = HEIGHT - FOOT - TOP, axes.get_ylim()
    wanted = [(value - bottom) / (top - bottom) * height for _, value, _ in labels]
    placed = dodged(wanted, LABEL_GAP, 6.0, height - 4.0)
    right = WIDTH - LEFT - RIGHT
    for (name, value, colour), start, place in zip(labels, wanted, placed, strict=True):
        ends = ([1.0, 1 + 6 / right, 1 + 16 / right], [start / height, start / height, place / height])
        axes.plot(*ends, color=LINE, linewidth=0.75, transform=axes.transAxes, clip_on=False)
        axes.text(
            1 + 19 / right,
            place / height,
            f"{shown(name, 15)} {accuracy(value)}",
            color=colour,
            fontsize=12,
            transform=axes.transAxes,
            va="center_baseline",
        )
