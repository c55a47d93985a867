"""The charts of training: accuracy against its cost, and losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation, Transform

from bench.catalog import RANDOM_INIT
from bench.statistics import Estimate
from reports.accuracy.pareto import IMAGES, CostAxis, on_front
from reports.accuracy.scores import Scored, ScorePoint, answered_tasks, points
from reports.render.formats import accuracy, format_short
from reports.render.frames import ComparisonRecords, losses_frame
from reports.render.svg import INK, MUTED, PAPER, add_tooltip, chart_label, drawing, margin_axes, names_at_ends, svg
from reports.speed.charts import series_colour, series_index, series_marker

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, FOOT, TOP = 30, 152, 44, 8
SHORT = 0.5  # an axis of accuracy up to this range has a tick at each tenth
REFERENCE_DASHES = ((4.0, 3.0), (1.0, 2.5), (7.0, 2.0, 1.0, 2.0), (2.0, 6.0))
LOSS_HEIGHT = 220
SHIFT = 4.0  # SVG units between the marks of two subjects with equal x
CHANCE = "majority class"


@dataclass(frozen=True, slots=True)
class MarkStyle:
    """The look of a subject; its marks are shifted by `beside` SVG units, and `ringed` points have a ring."""

    colour: str
    marker: str
    beside: float
    ringed: Sequence[ScorePoint]
    told: str  # the tooltip


def accuracy_chart(
    comparison: ComparisonRecords,
    answers: Sequence[Scored],
    task: str,
    protocol: str,
    price: CostAxis,
    name: str = "accuracy",
) -> Markup:
    """Draw the accuracies on one task against a cost, with their Pareto front; `name` is the prefix of its ids.

    There is no front against images seen, because an image takes a different time with each method.
    """
    found = [p for p in points(answers, task, protocol) if p.is_reference or price.of(p) is not None]
    majority = next(one.score.majority for one in answers if one.score.task == task)
    front = [] if price is IMAGES else on_front(found, price)
    with drawing(WIDTH, HEIGHT) as figure:
        axes = labelled_axes(figure)
        lowest = _axes_of_accuracy(axes, found, price)
        labels = [_reference(axes, index, *line) for index, line in enumerate(_references(found, majority, lowest))]
        _front(axes, front, price)
        start = next((point.accuracy.value for point in found if point.subject == RANDOM_INIT), None)
        subjects = dict.fromkeys(point.subject for point in found if not point.is_reference)
        for index, subject in enumerate(subjects):
            own = sorted((point for point in found if point.subject == subject), key=lambda point: point.images)
            colour, marker = series_colour(comparison, subject), series_marker(comparison, subject)
            costs = [price.of(point) or 0.0 for point in own]
            beside = SHIFT * (index - (len(subjects) - 1) / 2)
            text = f"{comparison.label(subject)}: {_bought(own, price)}"
            _line(axes, own, costs, start, MarkStyle(colour, marker, beside, front, text))
            labels.append((comparison.label(subject), own[-1].accuracy.value, colour))
        write_labels(axes, labels)
        last = "; ".join(f"{label} {accuracy(value)}" for label, value, _ in labels)
        heard = f"{task}: accuracy by {protocol} against {price.title}. At the last point: {last}."
        if front:
            on = (f"{comparison.label(point.subject)} {_bought([point], price)}" for point in front)
            heard += f" On the Pareto front: {'; '.join(on)}."
        return svg(figure, f"{name}-{price.name}-{answered_tasks(answers).index(task)}", heard)


def loss_chart(comparison: ComparisonRecords, experiment: str) -> Markup:
    """Draw the losses of an experiment, of all its seeds; cool-downs branch off the trunk."""
    frame = losses_frame(comparison, of=experiment)
    with drawing(WIDTH, LOSS_HEIGHT) as figure:
        axes = margin_axes(figure, 48, 16, 44, 12)
        for _, run in frame.groupby("seed", sort=False):
            trunk = run[run["part"] == "trunk"]
            for part, curve in run.groupby("part", sort=False):
                colour = series_colour(comparison, experiment) if part == "trunk" else INK
                before = trunk[trunk["images"] < curve["images"].iloc[0]].tail(1)  # the branch point
                joined = pd.concat([before, curve])
                axes.plot(joined["images"], joined["loss"], color=colour, linewidth=1.5, alpha=0.8)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_short(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("images seen")
        axes.set_ylabel("loss, nats")
        losses = frame[frame["part"] == "trunk"]["loss"]
        text = f"The trunk begins at {losses.iloc[0]:.4g} and ends at {losses.iloc[-1]:.4g}." if len(losses) else ""
        name = f"loss-{series_index(comparison, experiment)}"
        return svg(figure, name, f"Training loss of {comparison.label(experiment)} in nats. {text}")


def _axes_of_accuracy(axes: Axes, found: Sequence[ScorePoint], price: CostAxis) -> float:
    """Scale the cost from zero and accuracy from the tenth below all figures; return the lower end of accuracy."""
    furthest = max((price.of(point) or 0.0 for point in found if not point.is_reference), default=1.0)
    axes.set_xlim(0, 1.04 * (furthest or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_short(value)))
    axes.set_xlabel(price.axis)
    highest = max([point.accuracy.high or point.accuracy.value for point in found], default=1.0)
    lowest = min([point.accuracy.low or point.accuracy.value for point in found], default=0.0)
    return scale_accuracy(axes, highest, lowest)


def labelled_axes(figure: Figure) -> Axes:
    """Add axes with room for labels at their right."""
    return margin_axes(figure, LEFT, RIGHT, FOOT, TOP)


def scale_accuracy(axes: Axes, highest: float, lowest: float = 0.0) -> float:
    """Scale accuracy from the tenth below all figures to the tenth above; return the lower end."""
    bottom, top = int(lowest * 10) / 10, min(1.0, (int(highest * 10) + 1) / 10)
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_locator(MultipleLocator(0.1 if top - bottom <= SHORT else 0.2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}".removeprefix("0") if value else "0"))
    return bottom


def _front(axes: Axes, front: Sequence[ScorePoint], price: CostAxis) -> None:
    """Draw the Pareto front as steps: the highest accuracy up to each cost."""
    if front:
        costs = [price.of(point) or 0.0 for point in front]
        values = [point.accuracy.value for point in front]
        ends = [*costs, axes.get_xlim()[1]], [*values, values[-1]]
        axes.plot(*ends, drawstyle="steps-post", color=INK, linewidth=1.5, alpha=0.8)


def _bought(found: Sequence[ScorePoint], price: CostAxis) -> str:
    return ", ".join(f"{accuracy(point.accuracy.value)} for {price.write(price.of(point) or 0.0)}" for point in found)


def _references(found: Sequence[ScorePoint], majority: float, lowest: float) -> list[tuple[str, float]]:
    """Return (name, accuracy) of the references; chance only where it is inside the axis."""
    names = {RANDOM_INIT: "random init"}
    lines = [(names.get(p.subject, p.subject), p.accuracy.value) for p in found if p.is_reference]
    return [*lines, *([(CHANCE, majority)] if majority >= lowest else [])]


def _reference(axes: Axes, index: int, name: str, value: float) -> tuple[str, float, str]:
    dashes = REFERENCE_DASHES[index % len(REFERENCE_DASHES)]
    axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, dashes))
    return name, value, MUTED


def _line(axes: Axes, own: Sequence[ScorePoint], costs: Sequence[float], start: float | None, look: MarkStyle) -> None:
    """Draw the points of one subject with intervals, shifted so that they do not hide those of other subjects."""
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
    add_tooltip(marks[0], look.told)
    rings = [(at, value) for point, at, value in zip(own, costs, values, strict=True) if point in look.ringed]
    if rings:
        ring = axes.plot(*zip(*rings, strict=True), "o", color="none", markersize=12, transform=beside, clip_on=False)
        ring[0].set(markeredgecolor=INK, markeredgewidth=1)


def draw_intervals(
    axes: Axes, places: Sequence[float], found: Sequence[Estimate], colour: str, moved: Transform
) -> None:
    """Draw intervals as vertical lines, clipped to 0 and 1."""
    x, y = list[float](), list[float]()
    for at, one in zip(places, found, strict=True):
        if one.low is not None and one.high is not None:
            x += [at, at, math.nan]
            y += [max(0.0, one.low), min(1.0, one.high), math.nan]
    if x:
        axes.plot(x, y, color=colour, linewidth=1.25, alpha=0.7, transform=moved, clip_on=False)


def aside(axes: Axes, units: float) -> Transform:
    """Return data coordinates shifted to the side by SVG units."""
    assert axes.figure is not None
    return axes.transData + ScaledTranslation(units / 72, 0, axes.figure.dpi_scale_trans)


def write_labels(axes: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Write (name, accuracy, colour) at the right of the axes."""
    names_at_ends(
        axes, [(f"{chart_label(name, 15)} {accuracy(value)}", value, colour) for name, value, colour in labels]
    )
