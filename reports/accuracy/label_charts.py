"""The charts of few labels.

A chart has a logarithmic axis of labelled images and one line per tower or head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.transforms import Transform

from bench.interfaces.catalog import RANDOM_INIT
from bench.interfaces.sections import ComparisonRecords
from bench.statistics.accuracies import Estimate
from bench.tables.formats import format_accuracy
from bench.transfer.label_curves import PERCENT, SHARE, Curve, format_labels, label_counts
from bench.transfer.score_tables import RANDOM_INIT_TITLE
from reports.accuracy import training_charts
from reports.render.svg import MUTED, draw_marks, drawing, svg
from reports.speed.charts import series_colour_and_marker


@dataclass(frozen=True, slots=True, eq=False)
class CurveLine:
    """A curve with its look: references are dashed and have no marks."""

    name: str
    curve: Curve
    colour: str
    marker: str = ""
    dashes: tuple[float, ...] = ()  # none: solid


def curve_lines(comparison: ComparisonRecords, curves: Sequence[Curve]) -> list[CurveLine]:
    """Return the lines of towers, then those of references."""
    towers = [
        CurveLine(
            comparison.label(curve.subject),
            curve,
            *series_colour_and_marker(comparison, curve.subject),
        )
        for curve in curves
        if not curve.is_reference
    ]
    return [*towers, *reference_lines([curve for curve in curves if curve.is_reference])]


def reference_lines(curves: Sequence[Curve]) -> list[CurveLine]:
    """Return the lines of reference curves, each with its own dashes."""
    titles = {RANDOM_INIT: RANDOM_INIT_TITLE}
    return [
        CurveLine(
            titles.get(curve.subject, curve.subject),
            curve,
            MUTED,
            "",
            training_charts.reference_dashes(index),
        )
        for index, curve in enumerate(curves)
    ]


def label_chart(name: str, text: str, lines: Sequence[CurveLine], highest: float) -> Markup:
    """Draw lines over the number of labels; `highest` is the upper end of the axis, `text` the title of the chart."""
    curves = [line.curve for line in lines]
    unit = curves[0].label_unit
    numbers = label_counts(curves)
    x_of = _x_positions(numbers)
    marked = [line for line in lines if line.marker]
    with drawing(training_charts.WIDTH, training_charts.HEIGHT) as figure:
        axes = training_charts.labelled_axes(figure)
        training_charts.scale_accuracy(axes, highest)
        margin = 0.06 * ((x_of[numbers[-1]] - x_of[numbers[0]]) or 1.0)
        axes.set_xlim(x_of[numbers[0]] - margin, x_of[numbers[-1]] + margin)
        axes.set_xticks(
            list(x_of.values()),
            [format_labels(unit, number).removesuffix(PERCENT) for number in numbers],
        )
        axes.set_xlabel(f"{unit},{PERCENT}" if unit == SHARE else unit)
        chance = max(curve.majority for curve in curves)
        dashes = training_charts.reference_dashes(len(lines) - len(marked))
        axes.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, dashes))
        for line in lines:
            shift = (
                training_charts.SHIFT * (marked.index(line) - (len(marked) - 1) / 2)
                if line.marker
                else 0.0
            )
            _draw_line(axes, line, x_of, training_charts.shifted_transform(axes, shift))
        ends = [(line.name, line.curve.points()[-1][1].value, line.colour) for line in lines]
        training_charts.write_labels(axes, [*ends, (training_charts.CHANCE, chance, MUTED)])
        described = [f"{line.name} {_describe_ends(line.curve)}" for line in lines]
        described.append(f"{training_charts.CHANCE} {format_accuracy(chance)}")
        return svg(figure, name, f"{text}: accuracy against the {unit}. {'; '.join(described)}.")


def highest_bound(curves: Sequence[Curve]) -> float:
    """Return the highest end of an interval on these curves."""
    estimates = [estimate for curve in curves for _, estimate in curve.points()]
    return max(min(1.0, estimate.high or estimate.value) for estimate in estimates)


def _x_positions(label_counts: Sequence[float]) -> dict[float, float]:
    """Return the x of each number of labels: its binary logarithm; of no labels that of half the fewest."""
    positive = [number for number in label_counts if number]
    x_of_none = math.log2(positive[0]) - 1 if positive else 0.0
    return {number: math.log2(number) if number else x_of_none for number in label_counts}


def _draw_line(axes: Axes, line: CurveLine, x_of: dict[float, float], transform: Transform) -> None:
    points = line.curve.points()
    x = [x_of[labels] for labels, _ in points]
    estimates = [estimate for _, estimate in points]
    y = [estimate.value for estimate in estimates]
    style = (0, line.dashes) if line.dashes else "-"
    axes.plot(
        x, y, color=line.colour, linewidth=1.25, linestyle=style, transform=transform, clip_on=False
    )
    if line.marker:
        training_charts.draw_intervals(axes, x, estimates, line.colour, transform)
        tooltip = f"{line.name}: {_format_points(line.curve, points)}"
        draw_marks(
            axes,
            x,
            y,
            line.marker,
            line.colour,
            tooltip,
            size=6,
            transform=transform,
            clip_on=False,
        )


def _describe_ends(curve: Curve) -> str:
    points = curve.points()
    return _format_points(curve, points[:1] + points[1:][-1:])


def _format_points(curve: Curve, points: Sequence[tuple[float, Estimate]]) -> str:
    return ", ".join(
        f"{format_accuracy(estimate.value)} at {format_labels(curve.label_unit, labels)}"
        for labels, estimate in points
    )
