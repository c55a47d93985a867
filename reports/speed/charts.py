"""The charts of speed: dots are runs, lines are intervals, and no axis is cut to the data."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from bench.interfaces.sections import ChartKey, ComparisonRecords
from bench.statistics.ratios import SMALLEST_EFFECT, Ratio
from bench.tables.formats import (
    HasInterval,
    format_interval,
    format_rate,
    format_ratio,
    pluralize,
)
from reports.render.svg import (
    INK,
    LINE,
    MUTED,
    PAPER,
    SERIES,
    add_tooltip,
    chart_label,
    colour_and_marker,
    draw_marks,
    drawing,
    svg,
    swatch,
)

WIDTH = 440  # SVG units; a phone scales it by 0.8, a desktop by about 1.1
ROW = 46
RATIO_ROW = 74
FOOT = 44
# On an axis of ratios.
TICKS = (0.1, 0.2, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 20, 50, 100)
MOST_TICKS = 7
NARROWEST = (0.8, 1.25)  # the least range of an axis of ratios, so that 1 % looks small
RATIO_KEYS = (
    ChartKey("● whole step", 1),
    ChartKey("■ forward and backward alone", 2),
    ChartKey("◆ FLOP-predicted", 3),
)


def throughput_chart(comparison: ComparisonRecords) -> Markup:
    """Draw images per second: each run as a dot, their median as a bar, the interval of their mean as a line."""
    medians = []
    with row_chart(len(comparison.throughputs)) as (figure, axes):
        fastest = [max(row.rounds.values()) for row in comparison.throughputs]
        axes.set_xlim(0, 1.04 * max(fastest))
        for at, row in enumerate(comparison.throughputs):
            label = comparison.label(row.experiment)
            rate = format_rate(row.images_per_second)
            rates = list(row.rounds.values())
            colour, marker = series_colour_and_marker(comparison, row.experiment)
            axes.barh(at, row.images_per_second, height=0.2, color=colour, alpha=0.28, linewidth=0)
            heights = [at + 0.05 * (index % 3 - 1) for index in range(len(rates))]
            tooltip = f"{label}: median {rate} images/s of {pluralize(len(rates), 'run')}"
            tooltip += format_interval(row.interval, format_rate, ", 95 % ")
            draw_marks(axes, rates, heights, marker, colour, tooltip, size=4.5)
            if row.interval is not None:
                axes.hlines(at + 0.26, row.interval.low, row.interval.high, color=INK, linewidth=2)
            write_row_label(axes, at, label, rate)
            medians.append(f"{label} {rate}")
        axes.set_xlabel("images per second")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        text = f"Images per second, each run a dot, axis from zero. Medians: {'; '.join(medians)}."
        return svg(figure, "throughput", text)


def ratio_chart(comparison: ComparisonRecords) -> Markup:
    """Draw the ratios of each experiment to the base: whole step, forward and backward alone, FLOP-predicted."""
    base = comparison.label(comparison.base or "")
    rows = [row for row in comparison.throughputs if row.ratio is not None]
    ends = list(NARROWEST)
    described = []
    with row_chart(len(rows), RATIO_ROW) as (figure, axes):
        axes.axvspan(1 - SMALLEST_EFFECT, 1 + SMALLEST_EFFECT, color=LINE, alpha=0.55, linewidth=0)
        axes.axvline(1, color=MUTED, linewidth=1)
        for at, row in enumerate(rows):
            assert row.ratio is not None
            label = comparison.label(row.experiment)
            write_row_label(axes, at, label, format_ratio(row.ratio.value), 0.37)
            texts = [_draw_ratio(axes, at - 0.08, row.ratio, "whole step", "o", SERIES[0], ends)]
            if row.forward_backward is not None:
                name = "forward and backward"
                ratio = row.forward_backward
                texts.append(_draw_ratio(axes, at + 0.13, ratio, name, "s", SERIES[1], ends))
            if row.flop_ratio is not None:
                text = f"FLOP-predicted {format_ratio(row.flop_ratio)}"
                texts.append(text)
                draw_marks(axes, [row.flop_ratio], [at + 0.34], "D", SERIES[2], text, size=6)
                ends.append(row.flop_ratio)
            described.append(f"{label}: {', '.join(texts)}")
        low = min(ends)
        high = max(ends)
        margin = 0.02 * (high - low)
        axes.set_xlim(low - margin, high + margin)
        axes.set_xlabel(f"times {chart_label(base)}'s images per second")
        text = f"Ratios to {base}, the band is plus or minus 2 percent. {'; '.join(described)}."
        return svg(figure, "ratios", text)


def series_colour_and_marker(comparison: ComparisonRecords, experiment: str) -> tuple[str, str]:
    """Return the colour and the marker of an experiment in every chart."""
    return colour_and_marker(series_index(comparison, experiment))


def legend(comparison: ComparisonRecords, experiments: Iterable[str]) -> list[tuple[str, Markup]]:
    """Return the label and the marker of each experiment, once."""
    entries = []
    for name in dict.fromkeys(experiments):
        marker = swatch(series_index(comparison, name))
        entries.append((comparison.label(name), marker))
    return entries


def series_index(comparison: ComparisonRecords, experiment: str) -> int:
    """Return the index of an experiment in its comparison."""
    return list(comparison.experiments).index(experiment)


@contextmanager
def row_chart(number: int, height: int = ROW) -> Iterator[tuple[Figure, Axes]]:
    """Open a chart with rows of this height in SVG units, the first on top; `write_row_label` writes their labels."""
    total = height * number + FOOT
    with drawing(WIDTH, total) as figure:
        left = 4 / WIDTH
        bottom = (FOOT - 4) / total
        axes = figure.add_axes((left, bottom, 1 - 8 / WIDTH, height * number / total))
        axes.set_ylim(number - 0.5, -0.5)
        axes.set_yticks([])
        axes.xaxis.grid(visible=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_axisbelow(True)
        yield figure, axes


def write_row_label(axes: Axes, row: int, label: str, value: str, above: float = 0.34) -> None:
    """Write the name of a row at its left and its figure at its right, `above` rows above its middle."""
    y = row - above
    transform = axes.get_yaxis_transform()
    axes.text(0.004, y, chart_label(label), transform=transform, va="center", fontsize=13)
    figure = axes.text(0.996, y, value, transform=transform, va="center", fontsize=13)
    figure.set(ha="right", fontweight="bold")


def draw_ratio_bar(
    axes: Axes, row: int, label: str, start: float, ratio: HasInterval, colour: str
) -> list[float]:
    """Draw a ratio as a bar with its interval at its end; return the values that the axis must contain."""
    text = f"{format_ratio(ratio.value)}x"
    write_row_label(axes, row, label, text)
    end = start * ratio.value
    y = row + 0.06
    bar = axes.barh(y, end - start, 0.3, start, color=colour, edgecolor=PAPER, linewidth=1)
    add_tooltip(bar[0], text + format_interval(ratio, format_ratio, ", 95 % "))
    if ratio.low is None or ratio.high is None:
        return [start, end]
    low = start * ratio.low
    high = start * ratio.high
    axes.hlines(y, low, high, color=INK, linewidth=2)
    return [start, end, low, high]


def scale_ratios(axes: Axes, values: Sequence[float]) -> None:
    """Scale the axis of ratios to contain the values, with few ticks."""
    low = min(values) / 1.03
    high = max(values) * 1.03
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    spacing = math.ceil(len(ticks) / MOST_TICKS)
    axes.xaxis.set_major_locator(FixedLocator(ticks[::spacing]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _draw_ratio(
    axes: Axes, y: float, ratio: Ratio, name: str, marker: str, colour: str, ends: list[float]
) -> str:
    """Draw a ratio with its interval, add the values that the axis must contain to `ends`, and return its text."""
    text = f"{name} {format_ratio(ratio.value)}"
    tooltip = text
    ends.append(ratio.value)
    if ratio.low is not None and ratio.high is not None:
        axes.hlines(y, ratio.low, ratio.high, color=colour, linewidth=2)
        ends += [ratio.low, ratio.high]
        tooltip += f", 95 % {format_interval(ratio, format_ratio)}, {ratio.verdict}"
    draw_marks(axes, [ratio.value], [y], marker, colour, tooltip, size=6)
    return text
