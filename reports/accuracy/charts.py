"""The charts of accuracy against a cost, and of training losses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation

from bench.interfaces.sections import ComparisonRecords
from bench.statistics.accuracies import Estimate
from bench.tables.formats import format_abbreviated, format_accuracy
from bench.tables.groups import group_by
from bench.transfer.pareto import IMAGES, CostAxis, pareto_front
from bench.transfer.subject_scores import RETRIEVAL, FullLabelScores, SubjectAccuracy
from reports.render.frames import LossCurve
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
LOSS_HEIGHT = 220
LABEL_MARGIN = 152  # points at the right of the axes, for the names of lines
SHIFT = 4.0  # points between the marks of two lines with equal x
SMALL_RANGE = 0.5  # an axis of accuracy up to this range has a tick at each tenth
REFERENCE_DASHES = ((4.0, 3.0), (1.0, 2.5), (7.0, 2.0, 1.0, 2.0), (2.0, 6.0))
CHANCE = "majority class"


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerLine:
    """The accuracies of a tower over a cost."""

    name: str
    x: Sequence[float]
    estimates: Sequence[Estimate]
    tooltip: str
    colour: str
    marker: str


def accuracy_chart(
    comparison: ComparisonRecords,
    scores: FullLabelScores,
    task: str,
    cost: CostAxis,
    name: str = "accuracy",
) -> Markup:
    """Draw the accuracies on one task, by its main protocol, against a cost, with their Pareto front as steps.

    The axis is from the tenth below all accuracies to the tenth above; a majority class beyond it is left out.
    `name` is the prefix of the chart's ids. There is no front against images seen, because an image takes a different
    time with each method.
    """
    protocol = scores.main_protocol(task)
    points = scores.accuracies(task, protocol)
    trained = []
    largest = 0.0
    for point in points:
        cost_of_point = cost.cost_of(point)
        if not point.is_reference and cost_of_point is not None:
            trained.append(point)
            largest = max(largest, cost_of_point)
    right = 1.04 * (largest or 1.0)
    groups = group_by(trained, lambda point: point.subject).values()
    towers = [_tower_line(comparison, group, cost) for group in groups]
    references = [(point.subject, point.accuracy.value) for point in points if point.is_reference]
    bottom, top = _accuracy_range([point.accuracy for point in points])
    majority = points[0].seed_scores[0].score.majority
    if protocol != RETRIEVAL and bottom <= majority <= top:
        references.append((CHANCE, majority))
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, 30, LABEL_MARGIN, 44, 8)
        axes.set_xlim(0, right)
        axes.set_ylim(bottom, top)
        spacing = 0.1 if top - bottom <= SMALL_RANGE else 0.2
        axes.yaxis.set_major_locator(MultipleLocator(spacing))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1f}" if value else "0")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: format_abbreviated(value))
        axes.set_xlabel(cost.axis_label)
        front = [] if cost is IMAGES else pareto_front(points, cost)
        if front:
            x = [cost.cost_of(point) or 0.0 for point in front]
            y = [point.accuracy.value for point in front]
            axes.plot([*x, right], [*y, y[-1]], drawstyle="steps-post", color=INK, linewidth=1.5)
        last = _draw_lines(axes, towers, references)
        text = f"{task}: accuracy by {protocol} against {cost.title}. At the last point: {last}."
        prefix = f"{name}-{cost.name}-{scores.tasks.index(task)}"
        return svg(figure, prefix, text)


def loss_chart(
    comparison: ComparisonRecords, experiment: str, curves: Sequence[LossCurve]
) -> Markup:
    """Draw the losses of an experiment, of all its seeds; cool-downs branch off the trunk of their seed."""
    trunk_colour, _ = series_colour_and_marker(comparison, experiment)
    trunks = {curve.seed: curve for curve in curves if curve.is_trunk}
    with drawing(WIDTH, LOSS_HEIGHT) as figure:
        axes = margin_axes(figure, 48, 16, 44, 12)
        for curve in curves:
            points = list(curve.points)
            colour = trunk_colour
            if not curve.is_trunk:
                colour = INK
                first_images, _ = points[0]
                trunk = trunks[curve.seed].points
                before = [point for point in trunk if point[0] < first_images]
                points = before[-1:] + points
            images = [images for images, _ in points]
            losses = [loss for _, loss in points]
            axes.plot(images, losses, color=colour, linewidth=1.5, alpha=0.8)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: format_abbreviated(value))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("images seen")
        axes.set_ylabel("loss, nats")
        trunk = curves[0].points
        text = (
            f"Training loss of {comparison.label(experiment)} in nats. The trunk begins at {trunk[0][1]:.4g} and ends "
            f"at {trunk[-1][1]:.4g}."
        )
        return svg(figure, f"loss-{series_index(comparison, experiment)}", text)


def _tower_line(
    comparison: ComparisonRecords, points: Sequence[SubjectAccuracy], cost: CostAxis
) -> TowerLine:
    """Return the line of one tower's points."""
    points = sorted(points, key=lambda point: point.images_seen)
    subject = points[0].subject
    name = comparison.label(subject)
    colour, marker = series_colour_and_marker(comparison, subject)
    texts = []
    for point in points:
        accuracy = format_accuracy(point.accuracy.value)
        texts.append(f"{accuracy} for {cost.format_cost(point)}")
    return TowerLine(
        name=name,
        x=[cost.cost_of(point) or 0.0 for point in points],
        estimates=[point.accuracy for point in points],
        tooltip=f"{name}: {', '.join(texts)}",
        colour=colour,
        marker=marker,
    )


def _draw_lines(
    axes: Axes, towers: Sequence[TowerLine], references: Sequence[tuple[str, float]]
) -> str:
    """Draw lines, dashed ones for references, with their names at the right; return each name and last accuracy."""
    ends = []
    middle = (len(towers) - 1) / 2
    for index, tower in enumerate(towers):
        _draw_tower(axes, tower, SHIFT * (index - middle))
        ends.append((tower.name, tower.estimates[-1].value, tower.colour))
    for (name, accuracy), dashes in zip(references, cycle(REFERENCE_DASHES), strict=False):
        axes.axhline(accuracy, color=MUTED, linewidth=1, linestyle=(0, dashes))
        ends.append((name, accuracy, MUTED))
    labels = []
    texts = []
    for name, accuracy, colour in ends:
        figure = format_accuracy(accuracy)
        labels.append((f"{chart_label(name, 15)} {figure}", accuracy, colour))
        texts.append(f"{name} {figure}")
    label_line_ends(axes, labels)
    return "; ".join(texts)


def _accuracy_range(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Return the tenth below and the tenth above all accuracies and their intervals."""
    bounds = list[float | None]()
    for estimate in estimates:
        bounds += [estimate.value, estimate.low, estimate.high]
    known = [bound for bound in bounds if bound is not None]
    bottom = min(int(max(0.0, min(known)) * 10), 9) / 10
    top = (int(max(known) * 10) + 1) / 10
    return bottom, min(1.0, top)


def _draw_tower(axes: Axes, line: TowerLine, shift: float) -> None:
    """Draw a line with its marks and intervals, shifted to the side by SVG units."""
    assert axes.figure is not None
    moved = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    y = [estimate.value for estimate in line.estimates]
    style: dict[str, Any] = {
        "color": line.colour,
        "linewidth": 1.25,
        "transform": moved,
        "clip_on": False,
    }
    axes.plot(line.x, y, alpha=0.5, **style)
    for x, estimate in zip(line.x, line.estimates, strict=True):
        if estimate.low is not None and estimate.high is not None:
            interval = [max(0.0, estimate.low), min(1.0, estimate.high)]
            axes.plot([x, x], interval, alpha=0.7, **style)
    draw_marks(
        axes, line.x, y, line.marker, line.colour, line.tooltip, transform=moved, clip_on=False
    )
