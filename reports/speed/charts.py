"""The charts of speed: dots are runs, lines are intervals, and no axis is cut to the data."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from bench.interfaces.sections import ComparisonRecords
from bench.interfaces.throughput import Throughput
from bench.statistics.ratios import SMALLEST_EFFECT, Ratio
from bench.tables.formats import HasEstimate, format_interval, format_rate, format_ratio, pluralize
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
ROW, RATIO_ROW = 46, 74
FOOT = 44
# Of ratios.
TICKS = (
    0.1,
    0.2,
    0.5,
    0.7,
    0.8,
    0.9,
    1,
    1.1,
    1.25,
    1.5,
    2,
    2.5,
    3,
    4,
    5,
    7,
    10,
    20,
    50,
    100,
)
MOST_TICKS = 7
NARROWEST = (0.8, 1.25)  # the least range of an axis of ratios, so that 1 % looks small


def throughput_chart(comparison: ComparisonRecords) -> Markup:
    """Draw images per second: each run as a dot, their median as a bar, the interval of their mean as a line."""
    with row_chart(len(comparison.throughputs)) as (figure, axes):
        largest = max(max(row.rounds.values()) for row in comparison.throughputs)
        axes.set_xlim(0, 1.04 * largest)
        for at, row in enumerate(comparison.throughputs):
            colour, marker = series_colour_and_marker(comparison, row.experiment)
            axes.barh(at, row.images_per_second, height=0.2, color=colour, alpha=0.28, linewidth=0)
            spread = [at + 0.05 * (index % 3 - 1) for index in range(len(row.rounds))]
            tooltip = _runs_tooltip(comparison, row)
            draw_marks(
                axes,
                [*row.rounds.values()],
                spread,
                marker,
                colour,
                tooltip,
                size=4.5,
                markeredgewidth=0.5,
            )
            if row.interval is not None:
                axes.hlines(at + 0.26, row.interval.low, row.interval.high, color=INK, linewidth=2)
            write_row_label(
                axes, at, comparison.label(row.experiment), format_rate(row.images_per_second)
            )
        axes.set_xlabel("images per second")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        text = "; ".join(
            f"{comparison.label(row.experiment)} {format_rate(row.images_per_second)}"
            for row in comparison.throughputs
        )
        return svg(
            figure,
            "throughput",
            f"Images per second, each run a dot, axis from zero. Medians: {text}.",
        )


def ratio_chart(comparison: ComparisonRecords) -> Markup:
    """Draw the ratios of each experiment to the base: whole step, forward and backward alone, FLOP-predicted."""
    compared = [row for row in comparison.throughputs if row.ratio is not None]
    base = comparison.label(comparison.base or "")
    with row_chart(len(compared), RATIO_ROW) as (figure, axes):
        axes.set_xlim(*_ratio_limits(compared))
        axes.axvspan(1 - SMALLEST_EFFECT, 1 + SMALLEST_EFFECT, color=LINE, alpha=0.55, linewidth=0)
        axes.axvline(1, color=MUTED, linewidth=1)
        for at, row in enumerate(compared):
            assert row.ratio is not None
            write_row_label(
                axes, at, comparison.label(row.experiment), format_ratio(row.ratio.value), 0.37
            )
            _draw_ratio(axes, at - 0.08, row.ratio, "whole step", "o", SERIES[0])
            _draw_ratio(
                axes, at + 0.13, row.forward_backward, "forward and backward", "s", SERIES[1]
            )
            if row.flop_ratio is not None:
                predicted = axes.plot(
                    [row.flop_ratio], [at + 0.34], "D", color=SERIES[2], markersize=6
                )
                add_tooltip(predicted[0], f"FLOP-predicted {format_ratio(row.flop_ratio)}")
        axes.set_xlabel(f"times {chart_label(base)}'s images per second")
        text = "; ".join(_describe_ratios(comparison, row) for row in compared)
        return svg(
            figure, "ratios", f"Ratios to {base}, the band is plus or minus 2 percent. {text}."
        )


def series_colour_and_marker(comparison: ComparisonRecords, experiment: str) -> tuple[str, str]:
    """Return the colour and the marker of an experiment in every chart."""
    return colour_and_marker(series_index(comparison, experiment))


def legend(comparison: ComparisonRecords, experiments: Iterable[str]) -> list[tuple[str, Markup]]:
    """Return the label and the marker of each experiment, once."""
    return [
        (comparison.label(one), swatch(series_index(comparison, one)))
        for one in dict.fromkeys(experiments)
    ]


def series_index(comparison: ComparisonRecords, experiment: str) -> int:
    """Return the index of an experiment in its comparison."""
    return list(comparison.experiments).index(experiment)


@contextmanager
def row_chart(number: int, height: int = ROW) -> Iterator[tuple[Figure, Axes]]:
    """Open a chart with rows of this height in SVG units, the first on top; `write_row_label` writes their labels."""
    total = height * number + FOOT
    with drawing(WIDTH, total) as figure:
        axes = figure.add_axes(
            (4 / WIDTH, (FOOT - 4) / total, 1 - 8 / WIDTH, height * number / total)
        )
        axes.set_ylim(number - 0.5, -0.5)
        axes.set_yticks([])
        axes.xaxis.grid(visible=True)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_axisbelow(True)
        yield figure, axes


def write_row_label(axes: Axes, row: int, label: str, value: str, above: float = 0.34) -> None:
    """Write the name of a row at its left and its figure at its right, `above` rows above its middle."""
    transform = axes.get_yaxis_transform()
    axes.text(
        0.004,
        row - above,
        chart_label(label),
        transform=transform,
        va="center",
        ha="left",
        fontsize=13,
    )
    axes.text(
        0.996,
        row - above,
        value,
        transform=transform,
        va="center",
        ha="right",
        fontsize=13,
        fontweight="bold",
    )


def draw_ratio_bar(
    axes: Axes, row: int, label: str, start: float, one: HasEstimate, colour: str, hatch: str = ""
) -> list[float]:
    """Draw a ratio as a bar with its interval at its end; return the values that the axis must contain."""
    write_row_label(axes, row, label, f"{format_ratio(one.value)}x")
    end = start * one.value
    bar = axes.barh(
        row + 0.06, end - start, 0.3, start, color=colour, edgecolor=PAPER, hatch=hatch, linewidth=1
    )
    add_tooltip(
        bar[0], f"{format_ratio(one.value)}x{format_interval(one, format_ratio, ', 95 % ')}"
    )
    if one.low is None or one.high is None:
        return [start, end]
    axes.hlines(row + 0.06, start * one.low, start * one.high, color=INK, linewidth=2)
    return [start, end, start * one.low, start * one.high]


def scale_ratios(axes: Axes, values: Sequence[float]) -> None:
    """Scale the axis of ratios to contain the values, with few ticks."""
    low, high = min(values) / 1.03, max(values) * 1.03
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // MOST_TICKS)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _runs_tooltip(comparison: ComparisonRecords, row: Throughput) -> str:
    runs = pluralize(len(row.rounds), "run")
    median = f"{comparison.label(row.experiment)}: median {format_rate(row.images_per_second)} images/s of {runs}"
    mean = f", mean {format_rate(row.interval.value)}" if row.interval else ""
    return median + mean + format_interval(row.interval, format_rate, ", 95 % ")


def _draw_ratio(
    axes: Axes, y: float, found: Ratio | None, name: str, marker: str, colour: str
) -> None:
    if found is None:
        return
    text = f"{name}: {format_ratio(found.value)}"
    if found.low is not None and found.high is not None:
        axes.hlines(y, found.low, found.high, color=colour, linewidth=2)
        text += f", 95 % {format_interval(found, format_ratio)}, {found.verdict}"
    draw_marks(axes, [found.value], [y], marker, colour, text, size=6)


def _ratio_limits(rows: Sequence[Throughput]) -> tuple[float, float]:
    values: list[float | None] = [*NARROWEST]
    for row in rows:
        values.append(row.flop_ratio)
        for one in (row.ratio, row.forward_backward):
            values += [one.value, one.low, one.high] if one else []
    known = [value for value in values if value is not None]
    margin = 0.02 * (max(known) - min(known))
    return min(known) - margin, max(known) + margin


def _describe_ratios(comparison: ComparisonRecords, row: Throughput) -> str:
    assert row.ratio is not None
    separate = (
        f", forward and backward {format_ratio(row.forward_backward.value)}"
        if row.forward_backward
        else ""
    )
    flops = f", FLOP-predicted {format_ratio(row.flop_ratio)}" if row.flop_ratio else ""
    return f"{comparison.label(row.experiment)}: whole step {format_ratio(row.ratio.value)}{separate}{flops}"
