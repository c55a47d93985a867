"""The charts of accuracy against a cost, and of training losses."""

from collections.abc import Sequence
from itertools import cycle

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation

from bench.interfaces.sections import ComparisonView
from bench.statistics.accuracies import MeanEstimate
from bench.tables.formats import format_abbreviated_count, format_accuracy
from bench.tables.groups import group_by
from bench.transfer.pareto import IMAGES, TowerCostAxis, pareto_front
from bench.transfer.subject_scores import RETRIEVAL, FullLabelScores, TowerOrReferenceAccuracy
from reports.render.loss_curves import TRUNK, LossCurve
from reports.render.svg import (
    INK,
    MUTED,
    PAPER,
    add_axes_with_margins,
    figure_to_svg,
    fit_chart_label,
    open_figure,
)
from reports.speed.charts import experiment_colour_and_marker, experiment_index

WIDTH = 440  # points
HEIGHT = 270
LOSS_HEIGHT = 220
LEGEND_WIDTH = 164  # points at the right of the axes
SHIFT = 4.0  # points between the marks of two lines with equal x
REFERENCE_DASHES = ((4.0, 3.0), (1.0, 2.5), (7.0, 2.0, 1.0, 2.0), (2.0, 6.0))
CHANCE = "majority class"


def accuracy_chart(
    comparison: ComparisonView,
    scores: FullLabelScores,
    task: str,
    cost: TowerCostAxis,
    id_prefix: str = "accuracy",
) -> Markup:
    """Draw the accuracies on one task, by its main protocol, against a cost, with their Pareto front as steps.

    The axis is from the tenth below all accuracies to the tenth above; a majority class beyond it is left out. There is
    no front against images seen, because an image takes a different time with each method.
    """
    protocol = scores.main_protocol(task)
    points = scores.accuracies(task, protocol)
    trained = [point for point in points if not point.is_reference]
    measured = [point for point in trained if cost.cost_of(point) is not None]
    largest_cost = max([cost.cost_of(point) or 0.0 for point in measured], default=0.0)
    right = 1.04 * (largest_cost or 1.0)
    bottom, top = _accuracy_axis_limits([point.accuracy for point in points])
    references = [(point.subject, point.accuracy.value) for point in points if point.is_reference]
    majority = points[0].seed_scores[0].score.majority
    if protocol != RETRIEVAL and bottom <= majority <= top:
        references.append((CHANCE, majority))
    with open_figure(WIDTH, HEIGHT) as figure:
        axes = add_axes_with_margins(figure, 30, LEGEND_WIDTH, 44, 8)
        axes.set_xlim(0, right)
        axes.set_ylim(bottom, top)
        axes.yaxis.set_major_locator(MultipleLocator(0.1))
        axes.yaxis.set_major_formatter("{x:.1f}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: format_abbreviated_count(value))
        axes.set_xlabel(cost.axis_label)
        if cost is not IMAGES:
            _draw_pareto_front(axes, pareto_front(points, cost), cost)
        towers = list(group_by(measured, lambda point: point.subject).values())
        middle = (len(towers) - 1) / 2
        for index, tower in enumerate(towers):
            _draw_accuracy_curve(axes, comparison, tower, cost, SHIFT * (index - middle))
        for (name, accuracy), dashes in zip(references, cycle(REFERENCE_DASHES), strict=False):
            line = axes.axhline(accuracy, color=MUTED, linewidth=1, linestyle=(0, dashes))
            line.set_label(_legend_label(name, accuracy))
        lines, labels = axes.get_legend_handles_labels()
        axes.legend(lines, labels, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        last = "; ".join(labels)
        text = f"{task}: accuracy by {protocol} against {cost.title}. At the last point: {last}."
        task_number = scores.tasks.index(task)
        return figure_to_svg(figure, f"{id_prefix}-{cost.name}-{task_number}", text)


def loss_curves_chart(
    comparison: ComparisonView, experiment: str, curves: Sequence[LossCurve]
) -> Markup:
    """Draw the losses of an experiment, of all its seeds; cool-downs branch off the trunk of their seed."""
    colour, _ = experiment_colour_and_marker(comparison, experiment)
    with open_figure(WIDTH, LOSS_HEIGHT) as figure:
        axes = add_axes_with_margins(figure, 48, 16, 44, 12)
        for curve in curves:
            points = list(curve.points)
            if curve.trunk_point is not None:
                points.insert(0, curve.trunk_point)
            images, losses = zip(*points, strict=True)
            curve_colour = colour if curve.part == TRUNK else INK
            axes.plot(images, losses, color=curve_colour, linewidth=1.5, alpha=0.8)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: format_abbreviated_count(value))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("images seen")
        axes.set_ylabel("loss, nats")
        label = comparison.short_label(experiment)
        first = curves[0].points[0]
        last = curves[0].points[-1]
        text = (
            f"Training loss of {label} in nats. The {curves[0].part} begins at {first.loss:.4g} and ends at "
            f"{last.loss:.4g}."
        )
        return figure_to_svg(figure, f"loss-{experiment_index(comparison, experiment)}", text)


def _accuracy_axis_limits(accuracies: Sequence[MeanEstimate]) -> tuple[float, float]:
    """Return the tenth below and the tenth above all accuracies and their intervals."""
    bounds = list[float | None]()
    for accuracy in accuracies:
        bounds += [accuracy.value, accuracy.low, accuracy.high]
    known = [bound for bound in bounds if bound is not None]
    lowest_tenth = int(max(0.0, min(known)) * 10)
    highest_tenth = int(max(known) * 10) + 1
    return min(lowest_tenth, 9) / 10, min(highest_tenth / 10, 1.0)


def _draw_pareto_front(
    axes: Axes, front: Sequence[TowerOrReferenceAccuracy], cost: TowerCostAxis
) -> None:
    """Draw the towers of a Pareto front as steps to the right end of the axes."""
    if front:
        _, right = axes.get_xlim()
        x = [cost.cost_of(point) or 0.0 for point in front]
        y = [point.accuracy.value for point in front]
        x.append(right)
        y.append(y[-1])
        axes.plot(x, y, drawstyle="steps-post", color=INK, linewidth=1.5)


def _draw_accuracy_curve(
    axes: Axes,
    comparison: ComparisonView,
    points: Sequence[TowerOrReferenceAccuracy],
    cost: TowerCostAxis,
    points_to_the_right: float,
) -> None:
    """Draw the line, marks and intervals of one tower, shifted to the right by so many typographic points."""
    assert axes.figure is not None
    subject = points[0].subject
    colour, marker = experiment_colour_and_marker(comparison, subject)
    accuracies = [point.accuracy for point in points]
    below = []
    above = []
    for accuracy in accuracies:
        below.append(0.0 if accuracy.low is None else accuracy.value - accuracy.low)
        above.append(0.0 if accuracy.high is None else accuracy.high - accuracy.value)
    shift = ScaledTranslation(points_to_the_right / 72, 0, axes.figure.dpi_scale_trans)
    axes.errorbar(
        [cost.cost_of(point) or 0.0 for point in points],
        [accuracy.value for accuracy in accuracies],
        [below, above],
        color=colour,
        marker=marker,
        markeredgecolor=PAPER,
        linewidth=1.25,
        label=_legend_label(comparison.short_label(subject), accuracies[-1].value),
        transform=axes.transData + shift,
        clip_on=False,
    )


def _legend_label(name: str, accuracy: float) -> str:
    """Return a name, which is cut if it is long, with an accuracy."""
    return f"{fit_chart_label(name, 15)} {format_accuracy(accuracy)}"
