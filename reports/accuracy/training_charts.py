"""The charts of training: accuracy against its cost, and losses."""

import math
from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation, Transform

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import ComparisonRecords
from bench.statistics.accuracies import Estimate
from bench.tables.formats import format_accuracy, format_short
from bench.transfer.pareto import IMAGES, CostAxis, pareto_front
from bench.transfer.subject_scores import RETRIEVAL, ScorePoint, WholeTaskScores
from reports.render.frames import losses_frame
from reports.render.svg import (
    INK,
    MUTED,
    chart_label,
    draw_marks,
    drawing,
    label_line_ends,
    margin_axes,
    svg,
)
from reports.speed.charts import series_colour_and_marker, series_index

WIDTH = 440  # points
HEIGHT = 270
LEFT = 30  # margins, points
RIGHT = 152
FOOT = 44
TOP = 8
SHORT = 0.5  # an axis of accuracy up to this range has a tick at each tenth
REFERENCE_DASHES = ((4.0, 3.0), (1.0, 2.5), (7.0, 2.0, 1.0, 2.0), (2.0, 6.0))
LOSS_HEIGHT = 220
SHIFT = 4.0  # SVG units between the marks of two subjects with equal x
CHANCE = "majority class"


def accuracy_chart(
    comparison: ComparisonRecords,
    answers: WholeTaskScores,
    task: str,
    cost_axis: CostAxis,
    name: str = "accuracy",
) -> Markup:
    """Draw the accuracies on one task, by its main protocol, against a cost, with their Pareto front.

    `name` is the prefix of the chart's ids. There is no front against images seen, because an image takes a different
    time with each method.
    """
    protocol = answers.main_protocol(task)
    all_points = answers.points(task, protocol)
    points = [
        point for point in all_points if point.is_reference or cost_axis.of(point) is not None
    ]
    majority = next(scored.score.majority for scored in answers if scored.score.task == task)
    front = [] if cost_axis is IMAGES else pareto_front(points, cost_axis)
    with drawing(WIDTH, HEIGHT) as figure:
        axes = labelled_axes(figure)
        bottom = _scale_axes(axes, points, cost_axis)
        labels = _draw_references(
            axes, points, majority if majority >= bottom and protocol != RETRIEVAL else None
        )
        if front:
            costs = [cost_axis.of(point) or 0.0 for point in front]
            values = [point.accuracy.value for point in front]
            axes.plot(
                [*costs, axes.get_xlim()[1]],
                [*values, values[-1]],
                drawstyle="steps-post",
                color=INK,
                linewidth=1.5,
                alpha=0.8,
            )
        start = next(
            (point.accuracy.value for point in points if point.subject == RANDOM_INIT), None
        )
        subjects = dict.fromkeys(point.subject for point in points if not point.is_reference)
        for index, subject in enumerate(subjects):
            points_of_subject = [point for point in points if point.subject == subject]
            points_of_subject.sort(key=lambda point: point.images)
            label = comparison.label(subject)
            style = series_colour_and_marker(comparison, subject)
            transform = shifted_transform(axes, SHIFT * (index - (len(subjects) - 1) / 2))
            _draw_subject(axes, label, style, points_of_subject, cost_axis, start, front, transform)
            labels.append((label, points_of_subject[-1].accuracy.value, style[0]))
        write_labels(axes, labels)
        last = "; ".join(f"{label} {format_accuracy(value)}" for label, value, _ in labels)
        text = (
            f"{task}: accuracy by {protocol} against {cost_axis.title}. At the last point: {last}."
        )
        if front:
            towers = (
                f"{comparison.label(point.subject)} {_format_costs([point], cost_axis)}"
                for point in front
            )
            text += f" On the Pareto front: {'; '.join(towers)}."
        return svg(figure, f"{name}-{cost_axis.name}-{answers.tasks.index(task)}", text)


def loss_chart(comparison: ComparisonRecords, experiment: str) -> Markup:
    """Draw the losses of an experiment, of all its seeds; cool-downs branch off the trunk."""
    frame = losses_frame(comparison, name=experiment)
    with drawing(WIDTH, LOSS_HEIGHT) as figure:
        axes = margin_axes(figure, 48, 16, 44, 12)
        for _, run in frame.groupby("seed", sort=False):
            trunk = run[run["part"] == "trunk"]
            for part, curve in run.groupby("part", sort=False):
                colour = (
                    series_colour_and_marker(comparison, experiment)[0] if part == "trunk" else INK
                )
                # The branch point.
                before = trunk[trunk["images"] < curve["images"].iloc[0]].tail(1)
                joined = pd.concat([before, curve])
                axes.plot(joined["images"], joined["loss"], color=colour, linewidth=1.5, alpha=0.8)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: format_short(value))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("images seen")
        axes.set_ylabel("loss, nats")
        losses = frame[frame["part"] == "trunk"]["loss"]
        text = (
            f"The trunk begins at {losses.iloc[0]:.4g} and ends at {losses.iloc[-1]:.4g}."
            if len(losses)
            else ""
        )
        name = f"loss-{series_index(comparison, experiment)}"
        return svg(figure, name, f"Training loss of {comparison.label(experiment)} in nats. {text}")


def _scale_axes(axes: Axes, points: Sequence[ScorePoint], cost_axis: CostAxis) -> float:
    """Scale the cost from zero and accuracy from the tenth below all figures; return the lower end of accuracy."""
    furthest = max(
        (cost_axis.of(point) or 0.0 for point in points if not point.is_reference), default=1.0
    )
    axes.set_xlim(0, 1.04 * (furthest or 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: format_short(value))
    axes.set_xlabel(cost_axis.axis)
    highest = max([point.accuracy.high or point.accuracy.value for point in points], default=1.0)
    lowest = min([point.accuracy.low or point.accuracy.value for point in points], default=0.0)
    return scale_accuracy(axes, highest, lowest)


def labelled_axes(figure: Figure) -> Axes:
    """Add axes with room for labels at their right."""
    return margin_axes(figure, LEFT, RIGHT, FOOT, TOP)


def scale_accuracy(axes: Axes, highest: float, lowest: float = 0.0) -> float:
    """Scale accuracy from the tenth below all figures to the tenth above; return the lower end."""
    bottom = int(lowest * 10) / 10
    top = min(1.0, (int(highest * 10) + 1) / 10)
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_locator(MultipleLocator(0.1 if top - bottom <= SHORT else 0.2))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1f}" if value else "0")
    return bottom


def _format_costs(points: Sequence[ScorePoint], cost_axis: CostAxis) -> str:
    return ", ".join(
        f"{format_accuracy(point.accuracy.value)} for {cost_axis.format_cost(point)}"
        for point in points
    )


def _draw_references(
    axes: Axes, points: Sequence[ScorePoint], chance: float | None
) -> list[tuple[str, float, str]]:
    """Draw dashed lines at the accuracies of references and at chance; return their labels."""
    lines = [
        ("random init" if point.subject == RANDOM_INIT else point.subject, point.accuracy.value)
        for point in points
        if point.is_reference
    ]
    lines += [] if chance is None else [(CHANCE, chance)]
    for index, (_, value) in enumerate(lines):
        axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, reference_dashes(index)))
    return [(name, value, MUTED) for name, value in lines]


def reference_dashes(index: int) -> tuple[float, ...]:
    """Return the lengths of dashes and gaps of a reference's line."""
    return REFERENCE_DASHES[index % len(REFERENCE_DASHES)]


def _draw_subject(
    axes: Axes,
    label: str,
    style: tuple[str, str],
    points: Sequence[ScorePoint],
    cost_axis: CostAxis,
    start: float | None,
    front: Sequence[ScorePoint],
    transform: Transform,
) -> None:
    """Draw the points of one subject with intervals; points on the front have a ring."""
    colour, marker = style
    costs = [cost_axis.of(point) or 0.0 for point in points]
    values = [point.accuracy.value for point in points]
    x, y = ([0.0, *costs], [start, *values]) if start is not None else (costs, values)
    axes.plot(x, y, color=colour, linewidth=1.25, alpha=0.25 if front else 0.5, clip_on=False)
    draw_intervals(axes, costs, [point.accuracy for point in points], colour, transform)
    for point, cost in zip(points, costs, strict=True):
        if len(point.runs) > 1:
            seeds = [run.score.accuracy for run in point.runs]
            axes.plot(
                [cost] * len(seeds),
                seeds,
                "_",
                color=colour,
                markersize=5,
                transform=transform,
                clip_on=False,
            )
    tooltip = f"{label}: {_format_costs(points, cost_axis)}"
    draw_marks(axes, costs, values, marker, colour, tooltip, transform=transform, clip_on=False)
    rings = [
        (cost, value)
        for point, cost, value in zip(points, costs, values, strict=True)
        if point in front
    ]
    if rings:
        ring = axes.plot(
            *zip(*rings, strict=True), "o", markersize=12, transform=transform, clip_on=False
        )
        ring[0].set(color="none", markeredgecolor=INK, markeredgewidth=1)


def draw_intervals(
    axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], colour: str, transform: Transform
) -> None:
    """Draw intervals as vertical lines, clipped to 0 and 1."""
    line_x = list[float]()
    line_y = list[float]()
    for position, estimate in zip(x, estimates, strict=True):
        if estimate.low is not None and estimate.high is not None:
            line_x += [position, position, math.nan]
            line_y += [max(0.0, estimate.low), min(1.0, estimate.high), math.nan]
    if line_x:
        axes.plot(
            line_x,
            line_y,
            color=colour,
            linewidth=1.25,
            alpha=0.7,
            transform=transform,
            clip_on=False,
        )


def shifted_transform(axes: Axes, units: float) -> Transform:
    """Return data coordinates shifted to the side by SVG units."""
    assert axes.figure is not None
    return axes.transData + ScaledTranslation(units / 72, 0, axes.figure.dpi_scale_trans)


def write_labels(axes: Axes, labels: Sequence[tuple[str, float, str]]) -> None:
    """Write (name, accuracy, colour) at the right of the axes."""
    label_line_ends(
        axes,
        [
            (f"{chart_label(name, 15)} {format_accuracy(value)}", value, colour)
            for name, value, colour in labels
        ],
    )
