"""The charts of speed: dots are runs, lines are intervals, and no axis is cut to the data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.interfaces.sections import Chart, ChartGlyphMeaning, ComparisonView
from bench.statistics.ratios import SMALLEST_EFFECT, RateRatio
from bench.tables.formats import NBSP, format_rate, format_ratio
from reports.render.svg import (
    INK,
    LINE,
    MUTED,
    SERIES,
    add_axes_with_margins,
    colour_and_marker,
    draw_marks,
    figure_to_svg,
    fit_chart_label,
    open_figure,
)

WIDTH = 440  # SVG units; a phone scales it by 0.8, a desktop by about 1.1
ROW = 46
RATIO_ROW = 74
FOOT = 40
MARGIN = 4
NARROWEST = (0.8, 1.25)  # the least range of an axis of ratios, so that 1 % looks small
RATIO_KEYS = (
    ChartGlyphMeaning("● whole step", 1),
    ChartGlyphMeaning("■ forward and backward alone", 2),
    ChartGlyphMeaning("◆ FLOP-predicted", 3),
)
RATIOS_NOTE = (
    f"Lines are 95{NBSP}% intervals. Ratios inside the grey band (±2{NBSP}%) are not called a difference. The table "
    "below gives the figures."
)


class RatioRow(NamedTuple):
    """The ratios in one row of a chart; None: not measured."""

    label: str
    whole_step: RateRatio | None
    forward_backward: RateRatio | None
    flop_ratio: float | None


def throughput_chart(comparison: ComparisonView) -> Markup:
    """Draw images per second: each run as a dot, their median as a bar, the interval of their mean as a line."""
    medians = []
    with open_row_chart(len(comparison.throughputs)) as (figure, axes):
        fastest = [max(row.rounds.values()) for row in comparison.throughputs]
        axes.set_xlim(0, 1.04 * max(fastest))
        for y, row in enumerate(comparison.throughputs):
            label = comparison.short_label(row.experiment)
            median = format_rate(row.images_per_second)
            write_row_label(axes, y, label, median)
            colour, marker = experiment_colour_and_marker(comparison, row.experiment)
            axes.barh(y, row.images_per_second, height=0.2, color=colour, alpha=0.28, linewidth=0)
            rates = list(row.rounds.values())
            three_lines = (y - 0.05, y, y + 0.05)
            heights = [three_lines[index % 3] for index in range(len(rates))]
            draw_marks(axes, rates, heights, marker, colour, size=4.5)
            if row.interval is not None:
                low = row.interval.low
                high = row.interval.high
                axes.hlines(y + 0.26, low, high, color=INK, linewidth=2)
            medians.append(f"{label} {median}")
        axes.set_xlabel("images per second")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        text = f"Images per second, each run a dot, axis from zero. Medians: {'; '.join(medians)}."
        return figure_to_svg(figure, "throughput", text)


def ratio_chart(
    title: str,
    rows: Sequence[RatioRow],
    id_prefix: str,
    axis_label: str,
) -> Chart:
    """Draw the ratios of each row: whole step, forward and backward alone, FLOP-predicted."""
    descriptions = []
    with open_row_chart(len(rows), RATIO_ROW) as (figure, axes):
        smallest = 1 - SMALLEST_EFFECT
        largest = 1 + SMALLEST_EFFECT
        axes.axvspan(smallest, largest, color=LINE, alpha=0.55, linewidth=0)
        axes.axvline(1, color=MUTED, linewidth=1)
        for y, row in enumerate(rows):
            texts = _draw_and_describe_ratios(axes, y, row)
            descriptions.append(f"{row.label}: {', '.join(texts)}")
        low = min(NARROWEST[0], axes.dataLim.xmin)
        high = max(NARROWEST[1], axes.dataLim.xmax)
        margin = 0.02 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.set_xlabel(fit_chart_label(axis_label, 60))
        text = f"{axis_label}, the band is plus or minus 2 percent. {'; '.join(descriptions)}."
        svg = figure_to_svg(figure, id_prefix, text)
    return Chart(svg, title, [RATIOS_NOTE], RATIO_KEYS)


def _draw_and_describe_ratios(axes: Axes, y: int, row: RatioRow) -> list[str]:
    """Draw a row of the chart of ratios; return the name and the value of each ratio."""
    texts = []
    kinds = (
        ("whole step", row.whole_step, y - 0.08, "o", SERIES[0]),
        ("forward and backward", row.forward_backward, y + 0.13, "s", SERIES[1]),
    )
    for name, ratio, height, marker, colour in kinds:
        if ratio is None:
            continue
        texts.append(f"{name} {format_ratio(ratio.value)}")
        if ratio.low is not None and ratio.high is not None:
            axes.hlines(height, ratio.low, ratio.high, color=colour, linewidth=2)
        draw_marks(axes, [ratio.value], [height], marker, colour, size=6)
    if row.flop_ratio is not None:
        texts.append(f"FLOP-predicted {format_ratio(row.flop_ratio)}")
        draw_marks(axes, [row.flop_ratio], [y + 0.34], "D", SERIES[2], size=6)
    shown = row.whole_step or row.forward_backward
    write_row_label(axes, y, row.label, "" if shown is None else format_ratio(shown.value))
    return texts


def experiment_colour_and_marker(comparison: ComparisonView, experiment: str) -> tuple[str, str]:
    """Return the colour and the marker of an experiment in every chart."""
    return colour_and_marker(experiment_index(comparison, experiment))


def experiment_index(comparison: ComparisonView, experiment: str) -> int:
    """Return the index of an experiment in its comparison."""
    return list(comparison.experiments).index(experiment)


@contextmanager
def open_row_chart(num_rows: int, row_height: int = ROW) -> Iterator[tuple[Figure, Axes]]:
    """Open a chart with rows of this height in SVG units, the first on top; `write_row_label` writes their labels."""
    with open_figure(WIDTH, row_height * num_rows + FOOT + MARGIN) as figure:
        axes = add_axes_with_margins(figure, MARGIN, MARGIN, FOOT, MARGIN)
        axes.set_ylim(num_rows - 0.5, -0.5)
        axes.set_yticks([])
        axes.xaxis.grid(visible=True)
        axes.xaxis.set_major_formatter("{x:,g}")
        yield figure, axes


def write_row_label(axes: Axes, row: int, label: str, value: str) -> None:
    """Write the name of a row above its marks at the left, and its figure at the right."""
    style: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "va": "center",
        "fontsize": 13,
    }
    y = row - 0.34
    axes.text(0.004, y, fit_chart_label(label), **style)
    axes.text(0.996, y, value, ha="right", fontweight="bold", **style)
