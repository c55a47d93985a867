"""Images per second and peak memory against the batch size, where an experiment was run at several."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.measure.throughput import images_per_second
from bench.record import BatchTrial, Memory, Record, Speed
from bench.statistics import geometric_mean_interval
from reports.render.formats import GIB, MIB, count, format_rate, memory, span, times
from reports.render.frames import COUNTS, ComparisonRecords, sized_family
from reports.render.svg import (
    MUTED,
    PAPER,
    add_tooltip,
    binary_axis,
    chart_label,
    drawing,
    margin_axes,
    names_at_ends,
    svg,
)
from reports.render.tables import Cell, Column, HtmlTable
from reports.render.words import title_of
from reports.speed.charts import series_colour, series_marker
from reports.speed.speed_tables import MEMORY_TITLES

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


def batches_section(comparison: ComparisonRecords, records: Sequence[Record]) -> dict[str, object] | None:
    """Return the charts against the batch size with their table; None where no experiment has two sizes.

    `records` are all of the comparison, with trials and those at the largest batch size.
    """
    kind = _count_kept(records)
    sizes = batch_size_runs(comparison, records, kind)
    limits = sorted({limit for size in sizes for limit in size.fits})
    timed = [size for size in sizes if size.runs]
    held = [size for size in sizes if size.peak is not None or size.fits]
    drawn = {
        "speed": _speed_chart(comparison, timed) if _several(timed) else None,
        "memory": _memory_chart(comparison, held, limits) if _several(held) else None,
    }
    if not any(drawn.values()):
        return None
    return drawn | {
        "table": _table(comparison, sizes, limits, kind),
        "limits": [limit / GIB for limit in limits],
        "kind": f"{MEMORY_TITLES[kind]}, {'GiB' if _unit(held, limits) == GIB else 'MiB'}" if kind else "",
    }


def batch_size_runs(comparison: ComparisonRecords, records: Sequence[Record], kind: str | None) -> list[BatchSizeRuns]:
    """Collect runs and trials by experiment and batch size, in the order of the page; `kind` is a count of memory."""
    first: dict[object, str] = {}
    for experiment in comparison.experiments.values():
        first.setdefault(sized_family(experiment), experiment.name)
    found: dict[tuple[str, int], BatchSizeRuns] = {}
    for record in records:
        one = record.experiment
        if (
            one is None
            or sized_family(one) not in first
            or not isinstance(record.measured, (Speed, Memory, BatchTrial))
        ):
            continue
        key = first[sized_family(one)], one.batch_size
        size = found.setdefault(key, BatchSizeRuns(*key))
        if isinstance(record.measured, Speed):
            size.runs.append(images_per_second(one, record.measured))
        elif isinstance(record.measured, BatchTrial):
            size.fits[record.measured.limit_bytes] = record.measured.fits
        elif kind is not None:
            size.peak = getattr(record.measured, kind)
    order = list(comparison.experiments)
    return sorted(found.values(), key=lambda size: (order.index(size.experiment), size.batch_size))


def _count_kept(records: Sequence[Record]) -> str | None:
    """Return the first of the counts of memory that any run has; a chart shows one kind."""
    memories = [record.measured for record in records if isinstance(record.measured, Memory)]
    return next((name for name in COUNTS if any(getattr(one, name) is not None for one in memories)), None)


def _several(sizes: Sequence[BatchSizeRuns]) -> bool:
    return max(Counter(size.experiment for size in sizes).values(), default=0) > 1


def _speed_chart(comparison: ComparisonRecords, sizes: Sequence[BatchSizeRuns]) -> Markup:
    highest = max(run for size in sizes for run in size.runs)
    with drawing(WIDTH, HEIGHT) as drawn:
        axes = _axes(drawn, sizes, highest)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_rate(value) if value else "0"))
        text = _draw(
            axes, comparison, sizes, lambda size: median(size.runs), lambda value: f"{format_rate(value)} images/s"
        )
        for size in sizes:
            colour, interval = series_colour(comparison, size.experiment), geometric_mean_interval(size.runs)
            axes.plot([size.batch_size] * len(size.runs), size.runs, "o", color=colour, markersize=2.5, alpha=0.45)
            if interval is not None:
                axes.vlines(size.batch_size, interval.low, interval.high, color=colour, linewidth=1.5)
        return svg(drawn, "speed-by-batch", f"Images per second against the batch size, axis from zero: {text}.")


def _memory_chart(comparison: ComparisonRecords, sizes: Sequence[BatchSizeRuns], limits: Sequence[int]) -> Markup:
    held = [size for size in sizes if size.peak is not None]
    highest, unit = _highest(held, limits), _unit(held, limits)
    with drawing(WIDTH, HEIGHT) as drawn:
        axes = _axes(drawn, sizes, highest / unit)
        for limit in limits:
            axes.axhline(limit / unit, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        text = _draw(
            axes, comparison, held, lambda size: (size.peak or 0) / unit, lambda value: memory(int(value * unit), unit)
        )
        for size in sizes:
            for limit, fits in size.fits.items():
                colour = series_colour(comparison, size.experiment)
                tried = axes.plot(size.batch_size, limit / unit, "v" if fits else "x", color=colour, markersize=6.5)
                words = "fits" if fits else "does not fit"
                add_tooltip(
                    tried[0], f"{_family(comparison, size.experiment)}, batch {count(size.batch_size)}: {words}"
                )
        return svg(drawn, "memory-by-batch", f"Peak memory against the batch size, axis from zero: {text}.")


def _highest(sizes: Sequence[BatchSizeRuns], limits: Sequence[int]) -> int:
    return max([*limits, *(size.peak or 0 for size in sizes)], default=0)


def _unit(sizes: Sequence[BatchSizeRuns], limits: Sequence[int]) -> int:
    return GIB if _highest(sizes, limits) >= GIB else MIB


def _axes(drawn: Figure, sizes: Sequence[BatchSizeRuns], highest: float) -> Axes:
    axes = margin_axes(drawn, LEFT, RIGHT, FOOT, TOP)
    batches = sorted({size.batch_size for size in sizes})
    binary_axis(axes, 0.9 * batches[0], 1.1 * batches[-1], _ticks(batches))
    axes.set_ylim(0, 1.08 * highest)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("batch size, images per step")
    return axes


def _ticks(batches: Sequence[int]) -> list[int]:
    """Return the batch sizes whose tick labels do not overlap, with the smallest and the largest."""
    apart = (batches[-1] / batches[0]) ** (1 / MOST_TICKS)
    ticks = [batches[0]]
    for size in batches[1:]:
        if size >= apart * ticks[-1]:
            ticks.append(size)
    return ticks if len(ticks) == 1 else [*ticks[:-1], batches[-1]]


def _draw(
    axes: Axes,
    comparison: ComparisonRecords,
    sizes: Sequence[BatchSizeRuns],
    value: Callable[[BatchSizeRuns], float],
    write: Callable[[float], str],
) -> str:
    """Draw a line per experiment with its name at its end; return the text for screen readers."""
    ends, text = [], []
    for name in dict.fromkeys(size.experiment for size in sizes):
        own = [size for size in sizes if size.experiment == name]
        colour, marker = series_colour(comparison, name), series_marker(comparison, name)
        axes.plot([size.batch_size for size in own], list(map(value, own)), color=colour, linewidth=1.25)
        for size in own:
            mark = axes.plot(size.batch_size, value(size), marker, color=colour, markersize=6.5, clip_on=False)
            mark[0].set(markeredgecolor=PAPER, markeredgewidth=0.75)
            add_tooltip(mark[0], f"{_family(comparison, name)}, batch {count(size.batch_size)}: {write(value(size))}")
        ends.append((chart_label(_family(comparison, name), 13), value(own[-1]), colour))
        points = ", ".join(f"{write(value(size))} at {count(size.batch_size)}" for size in own)
        text.append(f"{_family(comparison, name)} {points}")
    names_at_ends(axes, ends)
    return "; ".join(text)


def _family(comparison: ComparisonRecords, name: str) -> str:
    """Name an experiment at any batch size: by its method where no other has it."""
    titles = {sized_family(one): title_of(one) for one in comparison.experiments.values()}
    title = title_of(comparison.experiments[name])
    return title if [*titles.values()].count(title) == 1 else comparison.label(name)


def _table(
    comparison: ComparisonRecords, sizes: Sequence[BatchSizeRuns], limits: Sequence[int], kind: str | None
) -> HtmlTable:
    unit = _unit(sizes, limits)
    columns = [
        Column.text("experiment"),
        Column("batch", "images per step"),
        Column("images/s", "median of runs, 95 %"),
        Column("runs"),
        Column(MEMORY_TITLES[kind] if kind else "peak memory", "GiB" if unit == GIB else "MiB"),
        *(Column.text(f"fits {limit / GIB:g} GiB") for limit in limits),
    ]
    return HtmlTable.of_rows(
        "Against the batch size", columns, [_row(comparison, size, limits, unit) for size in sizes]
    )


def _row(comparison: ComparisonRecords, size: BatchSizeRuns, limits: Sequence[int], unit: int) -> list[Cell]:
    interval = geometric_mean_interval(size.runs)
    note = span(interval.low, interval.high, format_rate) if interval else times(len(size.runs), "run")
    marks = {True: "✓ fits", False: "✕ out of memory"}
    return [
        Cell.of_name(_family(comparison, size.experiment), size.experiment),
        Cell.of(size.batch_size, count),
        Cell(format_rate(median(size.runs)), note, median(size.runs))
        if size.runs
        else Cell.absent("not timed at this batch"),
        Cell.of(len(size.runs)),
        Cell.figure(size.peak, lambda held: memory(int(held), unit), "no memory run at this batch"),
        *(
            Cell(marks[size.fits[limit]], "", int(size.fits[limit])) if limit in size.fits else Cell.absent("not tried")
            for limit in limits
        ),
    ]
