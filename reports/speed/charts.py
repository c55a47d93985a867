"""The charts of speed: dots are runs, lines are intervals, and no axis is cut to the data."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from bench.interfaces.sections import ChartGlyphMeaning, ComparisonView
from bench.interfaces.throughput import ExperimentThroughput
from bench.statistics.ratios import SMALLEST_EFFECT
from bench.tables.formats import (
    HasInterval,
    format_count_with_noun,
    format_interval,
    format_rate,
    format_ratio,
)
from reports.render.svg import (
    INK,
    LINE,
    MUTED,
    PAPER,
    SERIES,
    add_tooltip,
    colour_and_marker,
    draw_marks,
    figure_to_svg,
    fit_chart_label,
    legend_marker,
    open_figure,
)

WIDTH = 440  # SVG units; a phone scales it by 0.8, a desktop by about 1.1
ROW = 46
RATIO_ROW = 74
FOOT = 44
# Ticks of a logarithmic axis of ratios.
TICKS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 20, 50, 100)
MOST_TICKS = 7
NARROWEST = (0.8, 1.25)  # the least range of an axis of ratios, so that 1 % looks small
RATIO_KEYS = (
    ChartGlyphMeaning("● whole step", 1),
    ChartGlyphMeaning("■ forward and backward alone", 2),
    ChartGlyphMeaning("◆ FLOP-predicted", 3),
)


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
            tooltip = (
                f"{label}: median {median} images/s of {format_count_with_noun(len(rates), 'run')}"
            )
            tooltip += format_interval(row.interval, format_rate, ", 95 % ")
            three_lines = (y - 0.05, y, y + 0.05)
            heights = [three_lines[index % 3] for index in range(len(rates))]
            draw_marks(axes, rates, heights, marker, colour, tooltip, size=4.5)
            if row.interval is not None:
                low = row.interval.low
                high = row.interval.high
                axes.hlines(y + 0.26, low, high, color=INK, linewidth=2)
            medians.append(f"{label} {median}")
        axes.set_xlabel("images per second")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        text = f"Images per second, each run a dot, axis from zero. Medians: {'; '.join(medians)}."
        return figure_to_svg(figure, "throughput", text)


def ratio_chart(comparison: ComparisonView) -> Markup:
    """Draw the ratios of each experiment to the base: whole step, forward and backward alone, FLOP-predicted."""
    base = comparison.short_label(comparison.base or "")
    rows = [row for row in comparison.throughputs if row.ratio is not None]
    described = []
    with open_row_chart(len(rows), RATIO_ROW) as (figure, axes):
        smallest = 1 - SMALLEST_EFFECT
        largest = 1 + SMALLEST_EFFECT
        axes.axvspan(smallest, largest, color=LINE, alpha=0.55, linewidth=0)
        axes.axvline(1, color=MUTED, linewidth=1)
        for y, row in enumerate(rows):
            label = comparison.short_label(row.experiment)
            texts = _draw_and_describe_ratios(axes, y, label, row)
            described.append(f"{label}: {', '.join(texts)}")
        low, high = _drawn_ratio_range(axes)
        margin = 0.02 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.set_xlabel(f"times {fit_chart_label(base)}'s images per second")
        text = f"Ratios to {base}, the band is plus or minus 2 percent. {'; '.join(described)}."
        return figure_to_svg(figure, "ratios", text)


def _draw_and_describe_ratios(
    axes: Axes, y: int, label: str, row: ExperimentThroughput
) -> list[str]:
    """Draw the row of an experiment in the chart of ratios; return the name and the value of each ratio."""
    texts = []
    kinds = (
        ("whole step", row.ratio, y - 0.08, "o", SERIES[0]),
        ("forward and backward", row.forward_backward, y + 0.13, "s", SERIES[1]),
    )
    for name, ratio, height, marker, colour in kinds:
        if ratio is None:
            continue
        text = f"{name} {format_ratio(ratio.value)}"
        texts.append(text)
        if ratio.low is not None and ratio.high is not None:
            axes.hlines(height, ratio.low, ratio.high, color=colour, linewidth=2)
            text += f", 95 % {format_interval(ratio, format_ratio)}, {ratio.verdict}"
        draw_marks(axes, [ratio.value], [height], marker, colour, text, size=6)
    if row.ratio is not None:
        write_row_label(axes, y, label, format_ratio(row.ratio.value), 0.37)
    if row.flop_ratio is not None:
        text = f"FLOP-predicted {format_ratio(row.flop_ratio)}"
        texts.append(text)
        draw_marks(axes, [row.flop_ratio], [y + 0.34], "D", SERIES[2], text, size=6)
    return texts


def experiment_colour_and_marker(comparison: ComparisonView, experiment: str) -> tuple[str, str]:
    """Return the colour and the marker of an experiment in every chart."""
    return colour_and_marker(experiment_index(comparison, experiment))


def legend_entries(
    comparison: ComparisonView, experiments: Iterable[str]
) -> list[tuple[str, Markup]]:
    """Return the label and the marker of each experiment, once."""
    entries = []
    for name in dict.fromkeys(experiments):
        marker = legend_marker(experiment_index(comparison, name))
        entries.append((comparison.short_label(name), marker))
    return entries


def experiment_index(comparison: ComparisonView, experiment: str) -> int:
    """Return the index of an experiment in its comparison."""
    return list(comparison.experiments).index(experiment)


@contextmanager
def open_row_chart(num_rows: int, row_height: int = ROW) -> Iterator[tuple[Figure, Axes]]:
    """Open a chart with rows of this height in SVG units, the first on top; `write_row_label` writes their labels."""
    rows_height = row_height * num_rows
    height = rows_height + FOOT
    with open_figure(WIDTH, height) as figure:
        left = 4 / WIDTH
        bottom = (FOOT - 4) / height
        axes = figure.add_axes((left, bottom, 1 - 2 * left, rows_height / height))
        axes.set_ylim(num_rows - 0.5, -0.5)
        axes.set_yticks([])
        axes.xaxis.grid(visible=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_axisbelow(True)
        yield figure, axes


def write_row_label(axes: Axes, row: int, label: str, value: str, rows_above: float = 0.34) -> None:
    """Write the name of a row at its left and its figure at its right, so many rows above its middle."""
    y = row - rows_above
    transform = axes.get_yaxis_transform()
    axes.text(0.004, y, fit_chart_label(label), transform=transform, va="center", fontsize=13)
    figure = axes.text(0.996, y, value, transform=transform, va="center", fontsize=13)
    figure.set(ha="right", fontweight="bold")


def draw_ratio_bar(
    axes: Axes, row: int, label: str, start: float, ratio: HasInterval, colour: str
) -> None:
    """Draw a labelled bar from `start` to `start` times a ratio, with the interval at its end."""
    text = f"{format_ratio(ratio.value)}x"
    write_row_label(axes, row, label, text)
    y = row + 0.06
    width = start * ratio.value - start
    bar = axes.barh(y, width, 0.3, start, color=colour, edgecolor=PAPER, linewidth=1)
    add_tooltip(bar[0], text + format_interval(ratio, format_ratio, ", 95 % "))
    if ratio.low is not None and ratio.high is not None:
        low = start * ratio.low
        high = start * ratio.high
        axes.hlines(y, low, high, color=INK, linewidth=2)


def fit_ratio_axis(axes: Axes) -> None:
    """Scale the axis of ratios to what is drawn, with few ticks."""
    low, high = _drawn_ratio_range(axes)
    low /= 1.03
    high *= 1.03
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    spacing = math.ceil(len(ticks) / MOST_TICKS)
    axes.xaxis.set_major_locator(FixedLocator(ticks[::spacing]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _drawn_ratio_range(axes: Axes) -> tuple[float, float]:
    """Return the smallest and the largest ratio that is drawn, or the narrowest range of an axis around them."""
    lowest, highest = NARROWEST
    return min(lowest, axes.dataLim.xmin), max(highest, axes.dataLim.xmax)
