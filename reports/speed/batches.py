"""Images per second and peak memory against the batch size, where an experiment was run at several."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.interfaces.sections import Block, Chart, ComparisonRecords, Fold, Group, Heading, Key
from bench.measure.comparison_records import method_title
from bench.measure.speed_tables import MEMORY_COUNTS
from bench.measure.throughput import images_per_second
from bench.records.record import BatchTrial, Memory, Record, Speed
from bench.statistics.intervals import geometric_mean_interval
from bench.tables.formats import (
    GIB,
    NBSP,
    UNIT_NAMES,
    format_count,
    format_interval,
    format_memory,
    format_rate,
    memory_unit,
    pluralize,
)
from bench.tables.tables import Cell, Column, Table
from reports.render.frames import batch_independent_settings
from reports.render.svg import (
    MUTED,
    add_tooltip,
    draw_marks,
    drawing,
    label_line_ends,
    margin_axes,
    set_log2_x_axis,
    svg,
)
from reports.speed.charts import series_colour_and_marker

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, FOOT, TOP = 42, 104, 44, 10
MOST_TICKS = 6


@dataclass(slots=True)
class BatchSizeRuns:
    """The runs and trials of an experiment at one batch size."""

    experiment: str  # name in the comparison, where its batch size may differ
    batch_size: int
    runs: list[float] = field(default_factory=list)  # images per second
    peak: int | None = None  # bytes
    fits: dict[int, bool] = field(default_factory=dict)  # by memory limit in bytes


def batch_size_blocks(comparison: ComparisonRecords, records: Sequence[Record]) -> list[Block]:
    """Return the charts against the batch size with their table; none where no experiment has two sizes.

    `records` are all of the comparison, with trials and those at the largest batch size.
    """
    memories = [record.measured for record in records if isinstance(record.measured, Memory)]
    kind = next((name for name in MEMORY_COUNTS if any(getattr(one, name) is not None for one in memories)), None)
    sizes = batch_size_runs(comparison, records, kind)
    limits = sorted({limit for size in sizes for limit in size.fits})
    timed = [size for size in sizes if size.runs]
    held = [size for size in sizes if size.peak is not None or size.fits]
    charts = list[Chart]()
    if _has_several_sizes(timed):
        note = (
            f"Marks are medians over runs, small dots are runs, vertical lines are 95{NBSP}% intervals of their mean."
        )
        charts.append(Chart(_speed_chart(comparison, timed), "Images per second", [note]))
    if _has_several_sizes(held):
        unit = UNIT_NAMES[memory_unit(_memory_axis_end(held, limits))]
        title = f"Memory: {MEMORY_COUNTS[kind][0]}, {unit}" if kind else "Memory"
        limit = f"┄ limit of {' and '.join(str(one / GIB) for one in limits)}{NBSP}GiB"
        keys = [*map(Key, ("▼ fits under the limit", "✕ does not", limit))] if limits else []
        charts.append(Chart(_memory_chart(comparison, held, limits), title, keys=keys))
    if not charts:
        return []
    table = _batches_table(comparison, sizes, limits, kind)
    behind = Fold("The figures behind these charts", [table], "behind")
    return [Heading("Against the batch size"), Group(charts, "pair"), behind]


def batch_size_runs(comparison: ComparisonRecords, records: Sequence[Record], kind: str | None) -> list[BatchSizeRuns]:
    """Collect runs and trials by experiment and batch size, in the order of the page; `kind` is a count of memory."""
    first = {batch_independent_settings(one): one.name for one in reversed(comparison.experiments.values())}
    found: dict[tuple[str, int], BatchSizeRuns] = {}
    for record in records:
        one, measured = record.experiment, record.measured
        if one is None or not isinstance(measured, (Speed, Memory, BatchTrial)):
            continue
        if (name := first.get(batch_independent_settings(one))) is None:
            continue
        size = found.setdefault((name, one.training.batch_size), BatchSizeRuns(name, one.training.batch_size))
        if isinstance(measured, Speed):
            size.runs.append(images_per_second(one, measured))
        elif isinstance(measured, BatchTrial):
            size.fits[measured.limit_bytes] = measured.fits
        elif kind is not None:
            size.peak = getattr(measured, kind)
    order = list(comparison.experiments)
    return sorted(found.values(), key=lambda size: (order.index(size.experiment), size.batch_size))


def _has_several_sizes(sizes: Sequence[BatchSizeRuns]) -> bool:
    return max(Counter(size.experiment for size in sizes).values(), default=0) > 1


def _speed_chart(comparison: ComparisonRecords, sizes: Sequence[BatchSizeRuns]) -> Markup:
    highest = max(run for size in sizes for run in size.runs)
    with drawing(WIDTH, HEIGHT) as figure:
        axes = _batch_axes(figure, sizes, highest)
        axes.yaxis.set_major_formatter(lambda value, _: format_rate(value) if value else "0")
        medians = [median(size.runs) for size in sizes]
        text = _draw_lines(axes, comparison, sizes, medians, lambda value: f"{format_rate(value)} images/s")
        for size in sizes:
            colour, _ = series_colour_and_marker(comparison, size.experiment)
            interval = geometric_mean_interval(size.runs)
            axes.plot([size.batch_size] * len(size.runs), size.runs, "o", color=colour, markersize=2.5, alpha=0.45)
            if interval is not None:
                axes.vlines(size.batch_size, interval.low, interval.high, color=colour, linewidth=1.5)
        return svg(figure, "speed-by-batch", f"Images per second against the batch size, axis from zero: {text}.")


def _memory_chart(comparison: ComparisonRecords, sizes: Sequence[BatchSizeRuns], limits: Sequence[int]) -> Markup:
    held = [size for size in sizes if size.peak is not None]
    highest = _memory_axis_end(held, limits)
    unit = memory_unit(highest)
    with drawing(WIDTH, HEIGHT) as figure:
        axes = _batch_axes(figure, sizes, highest / unit)
        for limit in limits:
            axes.axhline(limit / unit, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        peaks = [(size.peak or 0) / unit for size in held]
        text = _draw_lines(axes, comparison, held, peaks, lambda value: format_memory(value * unit, unit))
        for size in sizes:
            title = _family_label(comparison, size.experiment)
            colour, _ = series_colour_and_marker(comparison, size.experiment)
            for limit, fits in size.fits.items():
                mark = axes.plot(size.batch_size, limit / unit, "v" if fits else "x", color=colour, markersize=6.5)
                verdict = "fits" if fits else "does not fit"
                add_tooltip(mark[0], f"{title}, batch {format_count(size.batch_size)}: {verdict}")
        return svg(figure, "memory-by-batch", f"Peak memory against the batch size, axis from zero: {text}.")


def _memory_axis_end(sizes: Sequence[BatchSizeRuns], limits: Sequence[int]) -> int:
    return max([*limits, *(size.peak or 0 for size in sizes)], default=0)


def _batch_axes(figure: Figure, sizes: Sequence[BatchSizeRuns], highest: float) -> Axes:
    axes = margin_axes(figure, LEFT, RIGHT, FOOT, TOP)
    batches = sorted({size.batch_size for size in sizes})
    set_log2_x_axis(axes, 0.9 * batches[0], 1.1 * batches[-1], _choose_ticks(batches))
    axes.set_ylim(0, 1.08 * highest)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("batch size, images per step")
    return axes


def _choose_ticks(batches: Sequence[int]) -> list[int]:
    """Return the batch sizes whose tick labels do not overlap, with the smallest and the largest."""
    least_factor = (batches[-1] / batches[0]) ** (1 / MOST_TICKS)
    ticks = [batches[0]]
    for size in batches[1:]:
        if size >= least_factor * ticks[-1]:
            ticks.append(size)
    return ticks if len(ticks) == 1 else [*ticks[:-1], batches[-1]]


def _draw_lines(
    axes: Axes,
    comparison: ComparisonRecords,
    sizes: Sequence[BatchSizeRuns],
    values: Sequence[float],
    write: Callable[[float], str],
) -> str:
    """Draw a line per experiment with its name at its end; return the text for screen readers."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for size, value in zip(sizes, values, strict=True):
        lines.setdefault(size.experiment, []).append((size.batch_size, value))
    ends, descriptions = [], []
    for name, points in lines.items():
        title, (colour, marker) = _family_label(comparison, name), series_colour_and_marker(comparison, name)
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.25)
        for batch_size, value in points:
            tooltip = f"{title}, batch {format_count(batch_size)}: {write(value)}"
            draw_marks(axes, batch_size, value, marker, colour, tooltip, clip_on=False)
        ends.append((title, points[-1][1], colour))
        listed = ", ".join(f"{write(value)} at {format_count(batch_size)}" for batch_size, value in points)
        descriptions.append(f"{title} {listed}")
    label_line_ends(axes, ends, longest=13)
    return "; ".join(descriptions)


def _family_label(comparison: ComparisonRecords, name: str) -> str:
    """Name an experiment at any batch size: by its method where no other has it."""
    titles = {batch_independent_settings(one): method_title(one) for one in comparison.experiments.values()}
    title = method_title(comparison.experiments[name])
    return title if [*titles.values()].count(title) == 1 else comparison.label(name)


def _batches_table(
    comparison: ComparisonRecords, sizes: Sequence[BatchSizeRuns], limits: Sequence[int], kind: str | None
) -> Table:
    unit = memory_unit(_memory_axis_end(sizes, limits))
    columns = [
        Column.text("experiment"),
        Column("batch", "images per step"),
        Column("images/s", "median of runs, 95 %"),
        Column("runs"),
        Column(MEMORY_COUNTS[kind][0] if kind else "peak memory", UNIT_NAMES[unit]),
        *(Column.text(f"fits {limit / GIB:g} GiB") for limit in limits),
    ]
    rows = [_batch_row(comparison, size, limits, unit) for size in sizes]
    return Table.of_rows("Against the batch size", columns, rows)


def _batch_row(comparison: ComparisonRecords, size: BatchSizeRuns, limits: Sequence[int], unit: int) -> list[Cell]:
    interval = geometric_mean_interval(size.runs)
    note = format_interval(interval, format_rate) or pluralize(len(size.runs), "run")
    untimed, untried = Cell.not_applicable("not timed at this batch"), Cell.not_applicable("not tried")
    marks = {True: Cell("✓ fits", "", 1), False: Cell("✕ out of memory", "", 0)}
    return [
        Cell.of_name(_family_label(comparison, size.experiment), size.experiment),
        Cell.of(size.batch_size, format_count),
        Cell.of(median(size.runs), format_rate, note) if size.runs else untimed,
        Cell.of(len(size.runs)),
        Cell.measured(size.peak, lambda peak: format_memory(peak, unit), "no memory run at this batch"),
        *(marks[size.fits[limit]] if limit in size.fits else untried for limit in limits),
    ]
