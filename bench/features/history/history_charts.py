"""The charts over commits: a line per machine, a dot per process, a vertical line per change."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from bench.features.history.changes import Change
from bench.measure.observations import Commit
from bench.tables.formats import format_quantity, format_ratio, pluralize, unit_size
from reports.render.svg import INK, MUTED, chart_label, colour_and_marker, draw_marks, drawing, margin_axes, svg
from reports.series import CommitHistory, Series

WIDTH, HEIGHT = 440, 200  # SVG units
LEFT, RIGHT, TOP, FOOT = 78, 10, 26, 34
LEAST_SPAN = 0.1  # least half-range of an axis, as a share of the median, so that 1 % looks small
MOST_TICKS = 5


def series_chart(name: str, history: CommitHistory, lines: Sequence[Series], changes: Sequence[Change]) -> Markup:
    """Draw the series of one metric over commits; `name` is the prefix of its ids."""
    measured = {point.commit for line in lines for point in line.points}
    commits = [commit for commit in history.commits if commit in measured]
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, LEFT, RIGHT, FOOT, TOP)
        axes.set_ylim(*_y_limits(lines))
        axes.set_xlim(-0.5, max(len(commits), 2) - 0.5)
        for line in lines:
            colour, marker = colour_and_marker(history.machines.index(line.machine))
            x = [commits.index(point.commit) for point in line.points]
            dots = [(at, value) for at, point in zip(x, line.points, strict=True) for value in point.runs]
            if len(dots) > len(x):
                axes.plot(*zip(*dots, strict=True), "o", color=colour, markersize=2.5, alpha=0.45)
            axes.plot(x, [point.value for point in line.points], color=colour, linewidth=1.25)
            for at, point in zip(x, line.points, strict=True):
                tooltip = f"{point.commit.short}: {format_quantity(point.value, line.metric.unit)}, median of "
                tooltip += pluralize(len(point.runs), "process", "processes")
                draw_marks(axes, at, point.value, marker, colour, tooltip, size=5.5)
        for change in changes:
            _draw_change(axes, commits, change, lines.index(change.series))
        unit = lines[0].metric.unit
        low, high = axes.get_ylim()
        step = unit_size(low + (high - low) / 2, unit)
        marks = [mark * step for mark in MaxNLocator(4).tick_values(low / step, high / step)]
        axes.yaxis.set_major_locator(FixedLocator([mark for mark in marks if low <= mark <= high]))
        axes.yaxis.set_major_formatter(lambda value, _: format_quantity(value, unit) if value > 0 else "")
        step = -(-len(commits) // MOST_TICKS)
        ticks = range((len(commits) - 1) % step, len(commits), step)  # the last commit has one
        axes.set_xticks(ticks, [commits[at].short for at in ticks])
        return svg(figure, name, _describe_chart(lines, changes))


def _describe_chart(lines: Sequence[Series], changes: Sequence[Change]) -> str:
    """Return the text of a chart for screen readers."""
    measure, points = lines[0].metric, lines[0].points
    first, last = (format_quantity(point.value, measure.unit) for point in (points[0], points[-1]))
    clauses = [f"{lines[0].benchmark.name}, {measure.name} over {len(points)} commits: from {first} to {last}"]
    for change in changes:
        size = "" if change.size is None else f" {format_ratio(change.size)} times"
        clauses.append(f"{change.kind}{size} after {change.before.short}, by {change.after.short}")
    return "; ".join(clauses) + "."


def _draw_change(axes: Axes, commits: Sequence[Commit], change: Change, row: int) -> None:
    """Draw a vertical line between two commits: solid for a confirmed change, dashed for a suspected one."""
    x = (commits.index(change.before) + commits.index(change.after)) / 2
    sure = change.kind == "confirmed"
    axes.axvline(x, color=INK if sure else MUTED, linewidth=1.25, linestyle="-" if sure else (0, (3, 3)))
    sign = ("▼" if change.is_worse else "▲") if sure else ("▽" if change.is_worse else "△")
    text = f"{sign} {format_ratio(change.new / change.old)}x"
    above = axes.get_xaxis_transform()
    axes.text(x, 1.03 + 0.1 * row, chart_label(text), transform=above, ha="center", va="bottom", fontsize=11)


def _y_limits(lines: Sequence[Series]) -> tuple[float, float]:
    values = [value for line in lines for point in line.points for value in point.runs]
    middle = sorted(values)[len(values) // 2]
    low, high = min([*values, (1 - LEAST_SPAN) * middle]), max([*values, (1 + LEAST_SPAN) * middle])
    return low - 0.04 * (high - low), high + 0.04 * (high - low)
