"""The charts over commits: a line per machine, a dot per process, a vertical line per change."""

import math
from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from bench.features.history.changes import SeriesJump
from bench.measure.metric_values import CommitOrWorkTree
from bench.tables.formats import format_quantity, format_ratio
from reports.render.svg import (
    INK,
    PAPER,
    add_axes_with_margins,
    colour_and_marker,
    figure_to_svg,
    fit_chart_label,
    open_figure,
)
from reports.series import MetricHistory, MetricSeries

SIZE = (440, 200)  # points
MARGINS = (78, 10, 34, 26)  # points: left, right, foot, top
MOST_TICKS = 5


def draw_series_chart(
    id_prefix: str,
    history: MetricHistory,
    lines: Sequence[MetricSeries],
    changes: Sequence[SeriesJump],
) -> Markup:
    """Return an SVG of one metric over commits, one line per machine; `id_prefix` is for the ids in it."""
    measured = {point.commit for line in lines for point in line.points}
    commits = [commit for commit in history.commits if commit in measured]
    metric = lines[0].metric
    title = f"{lines[0].benchmark.name}, {metric.name} over {len(commits)} commits"
    descriptions = [change.describe() for change in changes]
    text = "; ".join([title, *descriptions])
    with open_figure(*SIZE) as figure:
        axes = add_axes_with_margins(figure, *MARGINS)
        for line in lines:
            _draw_series(axes, commits, line, history.machines.index(line.machine))
        if len(lines) > 1:
            axes.legend(loc="lower left", frameon=False)
        for change in changes:
            _draw_jump(axes, commits, change)
        _set_limits_and_ticks(axes, commits, metric.unit)
        return figure_to_svg(figure, id_prefix, f"{text}.")


def _set_limits_and_ticks(axes: Axes, commits: Sequence[CommitOrWorkTree], unit: str) -> None:
    """Let the value axis begin at 0, and label some of the commits, the last one among them."""
    axes.set_xlim(-0.5, max(len(commits), 2) - 0.5)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: format_quantity(value, unit) if value else "0")
    spacing = math.ceil(len(commits) / MOST_TICKS)
    ticks = range(len(commits) - 1, -1, -spacing)
    names = [commits[at].short_id for at in ticks]
    axes.set_xticks(ticks, names)


def _draw_series(
    axes: Axes, commits: Sequence[CommitOrWorkTree], line: MetricSeries, machine: int
) -> None:
    """Draw the medians of commits as marks on a line, and the processes as small dots."""
    colour, marker = colour_and_marker(machine)
    positions = [commits.index(point.commit) for point in line.points]
    medians = [point.median for point in line.points]
    for position, point in zip(positions, line.points, strict=True):
        dots = [position] * len(point.runs)
        axes.plot(dots, point.runs, "o", color=colour, markersize=2.5, alpha=0.45)
    axes.plot(
        positions,
        medians,
        color=colour,
        marker=marker,
        markeredgecolor=PAPER,
        markersize=5.5,
        linewidth=1.25,
        label=f"machine {machine + 1}",
    )


def _draw_jump(axes: Axes, commits: Sequence[CommitOrWorkTree], change: SeriesJump) -> None:
    """Draw a vertical line between two commits, with the ratio of the levels above it."""
    before, after = change.commits
    middle = (commits.index(before) + commits.index(after)) / 2
    axes.axvline(middle, color=INK, linewidth=1.25)
    ratio = format_ratio(change.new / change.old)
    arrow = "▼" if change.is_worse else "▲"
    text = fit_chart_label(f"{arrow} {ratio}x")
    transform = axes.get_xaxis_transform()
    axes.text(middle, 1.03, text, transform=transform, ha="center", va="bottom", fontsize=11)
