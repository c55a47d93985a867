"""The charts of few labels: accuracy against labelled images on a logarithmic axis, one line per tower or head."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes

from bench.catalog import RANDOM_INIT
from bench.statistics import Estimate
from reports.accuracy.curves import (
    CHANCE,
    HEIGHT,
    REFERENCE_DASHES,
    SHIFT,
    WIDTH,
    aside,
    draw_intervals,
    labelled_axes,
    scale_accuracy,
    write_labels,
)
from reports.accuracy.label_curves import PERCENT, SHARE, Curve, format_labels, numbers_of
from reports.accuracy.score_tables import RANDOM_INIT_TITLE
from reports.render.formats import accuracy
from reports.render.frames import ComparisonRecords
from reports.render.svg import MUTED, PAPER, add_tooltip, drawing, svg
from reports.speed.charts import series_colour, series_marker


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
    towers = [curve for curve in curves if not curve.is_reference]
    looks = [(series_colour(comparison, of.subject), series_marker(comparison, of.subject)) for of in towers]
    drawn = [CurveLine(comparison.label(of.subject), of, *own) for of, own in zip(towers, looks, strict=True)]
    return [*drawn, *reference_lines([curve for curve in curves if curve.is_reference])]


def reference_lines(curves: Sequence[Curve]) -> list[CurveLine]:
    """Return the lines of reference curves, each with its own dashes."""
    return [
        CurveLine(
            RANDOM_INIT_TITLE if curve.subject == RANDOM_INIT else curve.subject, curve, MUTED, "", _dashes(index)
        )
        for index, curve in enumerate(curves)
    ]


def label_chart(name: str, text: str, lines: Sequence[CurveLine], highest: float) -> Markup:
    """Draw lines over the number of labels; `highest` is the upper end of the axis, `text` the title of the chart."""
    curves = [line.curve for line in lines]
    along, numbers = curves[0].along, numbers_of(curves)
    places = _places(numbers)
    marked = [line for line in lines if line.marker]
    with drawing(WIDTH, HEIGHT) as figure:
        axes = labelled_axes(figure)
        scale_accuracy(axes, highest)
        margin = 0.06 * ((places[numbers[-1]] - places[numbers[0]]) or 1.0)
        axes.set_xlim(places[numbers[0]] - margin, places[numbers[-1]] + margin)
        axes.set_xticks(
            list(places.values()), [format_labels(along, number).removesuffix(PERCENT) for number in numbers]
        )
        axes.set_xlabel(f"{along},{PERCENT}" if along == SHARE else along)
        chance = max(curve.majority for curve in curves)
        axes.axhline(chance, color=MUTED, linewidth=1, linestyle=(0, _dashes(len(lines) - len(marked))))
        for line in lines:
            beside = SHIFT * (marked.index(line) - (len(marked) - 1) / 2) if line.marker else 0.0
            _draw(axes, line, places, beside)
        ends = [(line.name, _points(line.curve)[-1][1].value, line.colour) for line in lines]
        write_labels(axes, [*ends, (CHANCE, chance, MUTED)])
        heard = "; ".join(f"{line.name} {_heard(line.curve)}" for line in lines)
        return svg(figure, name, f"{text}: accuracy against the {along}. {heard}; {CHANCE} {accuracy(chance)}.")


def highest_of(curves: Sequence[Curve]) -> float:
    """Return the highest end of an interval on these curves."""
    return max(min(1.0, one.high or one.value) for curve in curves for _, one in _points(curve))


def _places(numbers: Sequence[float]) -> dict[float, float]:
    """Return the x of each number of labels: its binary logarithm; of no labels that of half the fewest."""
    some = [number for number in numbers if number]
    none = math.log2(some[0]) - 1 if some else 0.0
    return {number: math.log2(number) if number else none for number in numbers}


def _draw(axes: Axes, line: CurveLine, places: dict[float, float], beside: float) -> None:
    """Draw a line, its marks and intervals shifted so that they do not hide those of other lines."""
    moved, found = aside(axes, beside), _points(line.curve)
    x, estimates = [places[labels] for labels, _ in found], [one for _, one in found]
    y = [one.value for one in estimates]
    style = (0, line.dashes) if line.dashes else "-"
    axes.plot(x, y, color=line.colour, linewidth=1.25, linestyle=style, transform=moved, clip_on=False)
    if line.marker:
        draw_intervals(axes, x, estimates, line.colour, moved)
        marks = axes.plot(x, y, line.marker, color=line.colour, markersize=6, transform=moved, clip_on=False)
        marks[0].set(markeredgecolor=PAPER, markeredgewidth=0.75)
        add_tooltip(marks[0], f"{line.name}: {_told(line.curve, found)}")


def _points(curve: Curve) -> list[tuple[float, Estimate]]:
    return [(labels, one) for labels in curve.accuracies if (one := curve.at(labels)) is not None]


def _dashes(index: int) -> tuple[float, ...]:
    return REFERENCE_DASHES[index % len(REFERENCE_DASHES)]


def _heard(curve: Curve) -> str:
    found = _points(curve)
    return _told(curve, [*dict.fromkeys((found[0], found[-1]))])


def _told(curve: Curve, found: Sequence[tuple[float, Estimate]]) -> str:
    return ", ".join(f"{accuracy(one.value)} at {format_labels(curve.along, labels)}" for labels, one in found)
