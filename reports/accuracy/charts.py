"""The charts of accuracy against a cost, and of training losses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import ComparisonRecords
from bench.statistics.accuracies import Estimate
from bench.tables.formats import format_abbreviated, format_accuracy
from bench.tables.groups import group_by
from bench.transfer.pareto import IMAGES, CostAxis, pareto_front
from bench.transfer.subject_scores import RETRIEVAL, FullLabelScores, ScorePoint
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
class Line:
    """Accuracies over x; the line of a tower has marks, and a line without a marker is a dashed reference."""

    name: str
    x: Sequence[float]
    estimates: Sequence[Estimate]
    points: Sequence[str] = ()  # the texts of the points, for the tooltip
    colour: str = MUTED
    marker: str = ""

    @property
    def last_accuracy(self) -> float:
        """The accuracy at the largest x."""
        return self.estimates[-1].value


def accuracy_chart(
    comparison: ComparisonRecords,
    scores: FullLabelScores,
    task: str,
    cost: CostAxis,
    name: str = "accuracy",
) -> Markup:
    """Draw the accuracies on one task, by its main protocol, against a cost, with their Pareto front as steps.

    `name` is the prefix of the chart's ids. There is no front against images seen, because an image takes a different
    time with each method.
    """
    protocol = scores.main_protocol(task)
    points = scores.points(task, protocol)
    trained = []
    largest = 0.0
    for point in points:
        cost_of_point = cost.cost_of(point)
        if not point.is_reference and cost_of_point is not None:
            trained.append(point)
            largest = max(largest, cost_of_point)
    right = 1.04 * (largest or 1.0)
    towers = group_by(trained, lambda point: point.subject).values()
    lines = [_tower_line(comparison, tower, cost) for tower in towers]
    for point in points:
        if point.is_reference:
            title = "random init" if point.subject == RANDOM_INIT else point.subject
            estimates = [point.accuracy, point.accuracy]
            lines.append(Line(name=title, x=[0, right], estimates=estimates))
    if protocol != RETRIEVAL:
        chance = Estimate(points[0].seed_scores[0].score.majority, None, None, "")
        lines.append(Line(name=CHANCE, x=[0, right], estimates=[chance, chance]))
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, 30, LABEL_MARGIN, 44, 8)
        axes.set_xlim(0, right)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: format_abbreviated(value))
        axes.set_xlabel(cost.axis_label)
        front = [] if cost is IMAGES else pareto_front(points, cost)
        if front:
            x = [cost.cost_of(point) or 0.0 for point in front]
            y = [point.accuracy.value for point in front]
            axes.plot([*x, right], [*y, y[-1]], drawstyle="steps-post", color=INK, linewidth=1.5)
        last = _draw_lines(axes, lines)
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
    comparison: ComparisonRecords, points: Sequence[ScorePoint], cost: CostAxis
) -> Line:
    """Return the line of one tower's points."""
    points = sorted(points, key=lambda point: point.images_seen)
    subject = points[0].subject
    colour, marker = series_colour_and_marker(comparison, subject)
    texts = []
    for point in points:
        accuracy = format_accuracy(point.accuracy.value)
        texts.append(f"{accuracy} for {cost.format_cost(point)}")
    return Line(
        name=comparison.label(subject),
        x=[cost.cost_of(point) or 0.0 for point in points],
        estimates=[point.accuracy for point in points],
        points=texts,
        colour=colour,
        marker=marker,
    )


def _draw_lines(axes: Axes, lines: Sequence[Line]) -> str:
    """Draw lines with their names at the right; return each name with its last accuracy.

    The axis is from the tenth below all accuracies to the tenth above, and a majority class beyond it is left out.
    """
    bottom, top = _accuracy_range([line for line in lines if line.name != CHANCE])
    axes.set_ylim(bottom, top)
    spacing = 0.1 if top - bottom <= SMALL_RANGE else 0.2
    axes.yaxis.set_major_locator(MultipleLocator(spacing))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1f}" if value else "0")
    shown = [line for line in lines if bottom <= line.last_accuracy <= top]
    towers = [line for line in shown if line.marker]
    references = [line for line in shown if not line.marker]
    for index, line in enumerate(references):
        dashes = REFERENCE_DASHES[index % len(REFERENCE_DASHES)]
        y = [estimate.value for estimate in line.estimates]
        axes.plot(line.x, y, color=MUTED, linewidth=1, linestyle=(0, dashes))
    middle = (len(towers) - 1) / 2
    for index, line in enumerate(towers):
        _draw_tower(axes, line, SHIFT * (index - middle))
    ends = []
    texts = []
    for line in [*towers, *references]:
        accuracy = format_accuracy(line.last_accuracy)
        label = f"{chart_label(line.name, 15)} {accuracy}"
        ends.append((label, line.last_accuracy, line.colour))
        texts.append(f"{line.name} {accuracy}")
    label_line_ends(axes, ends)
    return "; ".join(texts)


def _accuracy_range(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the tenth below and the tenth above all accuracies and their intervals."""
    bounds = list[float | None]()
    for line in lines:
        for estimate in line.estimates:
            bounds += [estimate.value, estimate.low, estimate.high]
    known = [bound for bound in bounds if bound is not None]
    lowest = max(0.0, min(known, default=0.0))
    highest = max(known, default=1.0)
    bottom = min(int(lowest * 10), 9) / 10
    top = (int(highest * 10) + 1) / 10
    return bottom, min(1.0, top)


def _draw_tower(axes: Axes, line: Line, shift: float) -> None:
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
    tooltip = f"{line.name}: {', '.join(line.points)}"
    draw_marks(axes, line.x, y, line.marker, line.colour, tooltip, transform=moved, clip_on=False)
