"""The charts over commits: a line per machine, a dot per process, a vertical line per change."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes

from bench.features.history.changes import Change
from bench.measure.observations import Commit
from bench.tables.formats import format_quantity, format_ratio, pluralize
from reports.render.svg import (
    INK,
    chart_label,
    colour_and_marker,
    draw_marks,
    drawing,
    margin_axes,
    svg,
)
from reports.series import CommitHistory, Series

WIDTH = 440  # points
HEIGHT = 200
LEFT = 78
RIGHT = 10
TOP = 26
FOOT = 34
LEAST_SPAN = 0.1  # least half-range of an axis, as a share of the median, so that 1 % looks small
MOST_TICKS = 5


def series_chart(
    name: str, history: CommitHistory, lines: Sequence[Series], changes: Sequence[Change]
) -> Markup:
    """Draw the series of one metric, one line per machine; `name` is the prefix of the ids in the SVG."""
    measured = {point.commit for line in lines for point in line.points}
    commits = [commit for commit in history.commits if commit in measured]
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, LEFT, RIGHT, FOOT, TOP)
        axes.set_xlim(-0.5, max(len(commits), 2) - 0.5)
        _set_y_axis(axes, lines)
        for line in lines:
            colour, marker = colour_and_marker(history.machines.index(line.machine))
            _draw_line(axes, commits, line, colour, marker)
        for change in changes:
            _draw_change(axes, commits, change, row=lines.index(change.series))
        step = -(-len(commits) // MOST_TICKS)
        ticks = range((len(commits) - 1) % step, len(commits), step)  # the last commit has a tick
        axes.set_xticks(ticks, [commits[at].short for at in ticks])
        return svg(figure, name, _describe_chart(lines, changes))


def _draw_line(
    axes: Axes, commits: Sequence[Commit], line: Series, colour: str, marker: str
) -> None:
    """Draw the medians of commits as marks on a line, and the processes as small dots."""
    positions = [commits.index(point.commit) for point in line.points]
    axes.plot(positions, [point.value for point in line.points], color=colour, linewidth=1.25)
    for position, point in zip(positions, line.points, strict=True):
        axes.plot(
            [position] * len(point.runs), point.runs, "o", color=colour, markersize=2.5, alpha=0.45
        )
        processes = pluralize(len(point.runs), "process", "processes")
        value = format_quantity(point.value, line.metric.unit)
        tooltip = f"{point.commit.short}: {value}, median of {processes}"
        draw_marks(axes, position, point.value, marker, colour, tooltip, size=5.5)


def _draw_change(axes: Axes, commits: Sequence[Commit], change: Change, row: int) -> None:
    """Draw a vertical line between two commits, with the ratio of the levels above it."""
    points = change.series.points
    before = commits.index(points[change.at - 1].commit)
    after = commits.index(points[change.at].commit)
    middle = (before + after) / 2
    axes.axvline(middle, color=INK, linewidth=1.25)
    text = chart_label(
        f"{'▼' if change.is_worse else '▲'} {format_ratio(change.new / change.old)}x"
    )
    position = axes.get_xaxis_transform()
    axes.text(
        middle, 1.03 + 0.1 * row, text, transform=position, ha="center", va="bottom", fontsize=11
    )


def _set_y_axis(axes: Axes, lines: Sequence[Series]) -> None:
    values = sorted(value for line in lines for point in line.points for value in point.runs)
    middle = values[len(values) // 2]
    unit = lines[0].metric.unit
    axes.set_ylim(
        min(values[0], (1 - LEAST_SPAN) * middle), max(values[-1], (1 + LEAST_SPAN) * middle)
    )
    axes.margins(y=0.04)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(
        lambda value, _: format_quantity(value, unit) if value > 0 else ""
    )


def _describe_chart(lines: Sequence[Series], changes: Sequence[Change]) -> str:
    """Return the text of a chart for screen readers."""
    line = lines[0]
    first = format_quantity(line.points[0].value, line.metric.unit)
    last = format_quantity(line.points[-1].value, line.metric.unit)
    text = f"{line.benchmark.name}, {line.metric.name} over {len(line.points)} commits: from {first} to {last}"
    return "; ".join([text, *(change.describe() for change in changes)]) + "."
